"""What makes one card different from the next: the box's name, and a one-time code with which the box enrols at the hub.

Pure but for the random numbers. The code stands on the card and on its printed label; kept is only its hash
(nvr/wire.py), which is also what the hub gets. Whoever reads the records later cannot enrol a box.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from firmware import firstboot, network
from nvr import wire
from nvr.errors import NvrError
from nvr.site import Site, SiteFaulty, check_text
from nvr.site_settings import host_name
from nvr.site_yaml import compose

# Without 0 O, 1 I L, U V: read from a label on a pole, in the rain.
ALPHABET = "23456789ABCDEFGHJKMNPQRSTWXYZ"
GROUPS, GROUP_LETTERS = 3, 4  # 29^12: 58 bits, and the hub throttles tries


class CannotPrepare(NvrError):
    """A site file cannot be made into one for a card."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What one card carries."""

    box: str
    site: str
    places: tuple[str, ...]
    hub: str  # address, "" without a hub
    code: str  # "" without a hub
    page_port: int
    disk_bytes: int  # that the site's rings take on the box's disk
    text: str  # the site file for this card

    @property
    def files(self) -> dict[str, bytes]:
        """What goes into the folder `site` of the card."""
        return {"site.yaml": self.text.encode()}

    @property
    def code_hash(self) -> str:
        return wire.code_hash(self.code) if self.code else ""

    def __repr__(self) -> str:
        return f"Identity({self.box!r})"  # the code and the cameras' passwords are in it


def new_code() -> str:
    """`7F3K-QM2P-XW9D`: never twice."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP_LETTERS)) for _ in range(GROUPS))


def box_names(name: str, count: int) -> list[str]:
    """`waihaong-1` and the ones after it; a name without a number gets one when there are several."""
    if count == 1:
        return [name]
    match = re.fullmatch(r"(.*?-?)(\d{1,6})", name)
    stem, first = (match[1], int(match[2])) if match else (f"{name}-", 1)
    return [f"{stem}{number}" for number in range(first, first + count)]


def identities(site_paths: Sequence[Path], count: int) -> list[Identity]:
    """One for each card: as many site files as cards, or one file whose box name is counted on.

    Raises CannotPrepare, SiteFaulty, NvrError.
    """
    if len(site_paths) == 1:
        sources = [site_paths[0]] * count
        names = box_names(_site(site_paths[0]).box, count)
    elif len(site_paths) == count:
        sources = list(site_paths)
        names = [_site(path).box for path in site_paths]
    else:
        raise CannotPrepare(
            f"{len(site_paths)} site files for {count} card{'s' if count > 1 else ''}",
            hint="As many site files as cards, in the same order; or one file, whose box name is counted on.",
        )
    check_names(names)
    return [prepared(path, name, new_code()) for path, name in zip(sources, names, strict=True)]


def check_names(names: Sequence[str]) -> None:
    """Raises CannotPrepare when two of these boxes have one name, or one on the network: nord_1 and nord-1."""
    hosts = [host_name(name) for name in names]
    for name, host in zip(names, hosts, strict=True):
        if hosts.count(host) > 1:
            raise CannotPrepare(
                f"two of the site files are for the box {name}{f' ({host} on the network)' if host != name else ''}",
                hint="Two boxes never share a name: change `box:` in one of them.",
            )


def _site(path: Path) -> Site:
    from nvr import site

    return site.load(path)


def prepared(path: Path, box: str, code: str) -> Identity:
    """The site file at `path` for the box of this name, with this code if it has a hub. Comments and order stay."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CannotPrepare(
            f"cannot read the site file {path}: {error.strerror}", hint="Check its name and its permissions."
        ) from error
    node, fault = compose(data)
    if node is None:
        raise SiteFaulty(path, (fault,) if fault else ())
    text = _with_scalar(data, ("box",), box)
    if isinstance(node, yaml.MappingNode) and any(name.value == "hub" for name, _ in node.value):
        text = _with_scalar(text, ("hub", "code"), code)
    after = check_text(text, path)
    if after.site is None:
        raise SiteFaulty(path, after.faults)
    found = after.site
    if found.box != box or (found.hub is not None and found.hub.code != code):
        raise CannotPrepare(
            f"{path} is written in a way that this program cannot change safely",
            hint="Write `box:` and `hub:` each on lines of their own.",
        )
    places = tuple(dict.fromkeys(camera.place for camera in found.cameras))
    disk_bytes = sum(stream.ring_bytes + stream.hold_bytes for stream in found.recorded_streams())
    return Identity(
        box,
        found.name,
        places,
        found.hub.url if found.hub else "",
        code if found.hub else "",
        found.web.port,
        disk_bytes,
        text.decode("utf-8"),
    )


def _with_scalar(data: bytes, keys: tuple[str, ...], value: str) -> bytes:
    """The text with `value` at `keys`, put in if it is not there; everything else as it was. Raises CannotPrepare."""
    node, fault = compose(data)
    text = data.decode("utf-8") if fault is None else ""
    for key in keys[:-1]:
        node = (
            next((child for name, child in node.value if name.value == key), None)
            if isinstance(node, yaml.MappingNode)
            else None
        )
    if fault is not None or not isinstance(node, yaml.MappingNode) or not node.value:
        raise CannotPrepare(
            "the site file is not written as groups of keys", hint="nvrctl site check says what is wrong."
        )
    for name, child in node.value:
        if name.value == keys[-1] and isinstance(child, yaml.ScalarNode):
            start, end = child.start_mark.index, child.end_mark.index
            # An empty value ends where it starts, right behind the colon.
            return (text[:start] + (f" {value}" if start == end else value) + text[end:]).encode()
    first = node.value[0][0]
    if node.flow_style:
        return (text[: first.start_mark.index] + f"{keys[-1]}: {value}, " + text[first.start_mark.index :]).encode()
    indent = " " * first.start_mark.column
    return (text[: first.start_mark.index] + f"{keys[-1]}: {value}\n{indent}" + text[first.start_mark.index :]).encode()


# -- what every card of a run gets besides ---------------------------------------------------------------

_KEY_KINDS = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def authorized_keys(paths: Sequence[Path]) -> bytes:
    """The public keys in these files, as the box takes them. Raises CannotPrepare, above all for a private one."""
    lines = []
    for path in paths:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CannotPrepare(
                f"cannot read the SSH key {path}: {error}", hint="Give a public key, such as ~/.ssh/id_ed25519.pub."
            ) from error
        if "PRIVATE KEY" in text:
            raise CannotPrepare(
                f"{path} is a PRIVATE key, which goes on no card", hint=f"The public one is called {path}.pub."
            )
        found = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if not found or not all(line.split()[0] in _KEY_KINDS and len(line.split()) >= 2 for line in found):
            raise CannotPrepare(
                f"{path} holds no SSH public key", hint="It starts with ssh-ed25519 or the like; ssh-keygen makes one."
            )
        lines += found
    return "".join(f"{line}\n" for line in lines).encode()


def check_network(path: Path) -> bytes:
    """A network.yaml, as the box's own reader takes it (firmware/network.py). Raises CannotPrepare with every fault."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CannotPrepare(
            f"cannot read {path}: {error.strerror}", hint="Check its name and its permissions."
        ) from error
    _, faults = network.read(firstboot.tidied(data))
    if faults:
        told = [f"{path}:{fault.line}: {f'{fault.key}: ' if fault.key else ''}{fault.what}" for fault in faults]
        raise CannotPrepare(
            "\n".join(told), hint="\n        ".join(dict.fromkeys(f.instead for f in faults if f.instead))
        )
    return data
