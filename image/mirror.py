"""Where Debian's packages come from: what the machine's own apt uses, or `--mirror`. No address stands in this repository."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from image.run import Toolbox, run
from nvr.errors import NvrError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")  # the same name on the machine and in the toolbox
# What of the machine's apt decides whether a mirror can be reached at all, here as there.
_PASSED_ON = r"Acquire::(?:(?:http|https|ftp)::Proxy|Check-Valid-Until|Check-Date|Retries|http::Timeout)\b.*"


@dataclass(frozen=True, slots=True)
class Mirror:
    """Addresses of the main archive and of security updates ("" where none is known), and apt settings to reach them."""

    main: str
    security: str
    settings: tuple[str, ...]  # lines of apt.conf

    def sources(
        self, suite: str, components: str = "main", *, backports: bool = False, more: Sequence[str] = ()
    ) -> list[str]:
        """Lines of sources.list; `more` are a recipe's own."""
        signed = f"[signed-by={KEYRING}]"
        lines = [f"deb {signed} {self.main} {name} {components}" for name in (suite, f"{suite}-updates")]
        if backports:
            lines.append(f"deb {signed} {self.main} {suite}-backports {components}")
        if self.security:
            lines.append(f"deb {signed} {self.security} {suite}-security {components}")
        return [*lines, *more]


def mirror_of_this_machine(given: str = "", security: str = "") -> Mirror:
    """`given` and `security` where somebody named them, else what apt uses here. Raises NvrError where there is neither."""
    settings: tuple[str, ...] = ()
    main = given
    if shutil.which("apt-config"):
        dumped = run(["apt-config", "dump"]).output.splitlines()
        settings = tuple(line for line in dumped if re.fullmatch(_PASSED_ON, line))
        if not (main and security):
            shown = run(["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)"]).output.split()
            known = dict(reversed([tuple(line.split("|", 1)) for line in shown if "|" in line]))
            main = main or known.get("Debian", "")
            security = security or known.get("Debian-Security", "")
    if not main:
        raise NvrError(
            "no mirror of Debian's archive is known: apt is not set up here",
            hint="Name one: --mirror http://... , a folder that holds dists/ and pool/.",
        )
    return Mirror(main.rstrip("/"), security.rstrip("/"), settings)


def fetch(
    into: Path, toolbox: Toolbox, mirror: Mirror, architecture: str, suite: str, packages: Sequence[str], *,
    components: str = "main", backports: bool = False, follow: str = "", more: Sequence[str] = (),
) -> list[Path]:  # fmt: skip
    """Download single packages and unpack them below `into`, without running anything of theirs; the .deb files in order.

    apt checks them against the archive's signature. Of a package that only names others (a kernel's), the first dependency
    that begins with `follow` is taken in its place.
    """
    apt = into / "apt"
    for folder in ("lists/partial", "archives/partial", "empty"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(
        "\n".join(mirror.sources(suite, components, backports=backports, more=more)) + "\n"
    )
    (apt / "apt.conf").write_text("\n".join([
        f'APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};',
        f'Dir::State::lists "{apt}/lists"; Dir::State::status "{apt}/status"; Dir::Cache "{apt}";',
        f'Dir::Etc::sourcelist "{apt}/sources.list"; Dir::Etc::sourceparts "{apt}/empty";',
        'Acquire::Languages "none"; APT::Sandbox::User "root";', *mirror.settings]) + "\n")  # fmt: skip
    environment = {"APT_CONFIG": str(apt / "apt.conf")}
    toolbox.run(["apt-get", "update", "-qq"], environment=environment)
    names = list(packages)
    if follow:
        for number, name in enumerate(names):
            told = toolbox.run(["apt-cache", "depends", name.partition("/")[0]], environment=environment).output
            real = re.search(rf"Depends: ({re.escape(follow)}\S+)", told)
            if real and name.startswith(follow):
                names[number] = real[1]
    archives: list[Path] = []
    for name in names:
        folder = apt / "fetched"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        # apt-get has no option for where to; it downloads into the folder it runs in.
        toolbox.run(["sh", "-c", 'cd "$1" && apt-get download -qq "$2"', "sh", folder, name], environment=environment)
        (archive,) = folder.glob("*.deb")
        toolbox.run(["dpkg-deb", "-x", archive, into / "tree"])
        kept = into / archive.name
        os.replace(archive, kept)
        archives.append(kept)
    shutil.rmtree(apt)
    return archives
