"""At every start, before the network: takes what a card's FAT partition brings, and prepares what only lives until the next start.

A card carries, in the folder `site` of its first partition, `site.yaml` (docs/settings.md), and if wanted `network.yaml` and
`authorized_keys`. Each is checked as a whole. A good one is moved to the data partition, durable there before it is overwritten
and removed here; a faulty one stays where an installer can mend it, and what was good before stays in force. `RESULT.txt` beside them
says what happened, in Indonesian and English. Whatever is wrong, the box goes on starting. A power cut at any moment leaves a
file in one of the two places, whole.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from firmware import network, working_copy
from nvr import site as site_room
from nvr import systemd, troubles
from nvr.errors import NvrError
from nvr.site_settings import host_name
from nvr.site_yaml import Fault
from nvr.troubles import Trouble

log = logging.getLogger(__name__)

FILE_BYTES = 1 << 20
NVR_UID = NVR_GID = 900  # the same in every image: files on the data partition outlive it
KEY_KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
             "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is; a test has a folder for each."""

    card: Path = Path("/boot/selector/site")
    data: Path = Path("/data")
    run: Path = Path("/run")
    iwd: Path = Path("/var/lib/iwd")

    @property
    def site(self) -> Path:
        return self.data / "site" / "site.yaml"

    @property
    def in_force(self) -> Path:
        """The box's own copy, which the hub and the page may have changed since (working_copy.py)."""
        return self.data / working_copy.IN_FORCE.relative_to("/data")

    @property
    def system(self) -> Path:
        return self.data / "system"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file of the card."""

    name: str
    faults: tuple[Fault, ...] = ()
    told: tuple[str, str] = ("", "")  # what is in it, Indonesian and English


# -- taking files from the card ----------------------------------------------------------------------


def tidied(data: bytes) -> bytes:
    """Text as editors on laptops save it: a byte order mark and CR before LF go."""
    return data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")


def judged_site(data: bytes, path: Path, places: Places = Places()) -> Outcome:
    checked = site_room.check_text(data, path)
    if checked.site is None:
        return Outcome("site.yaml", checked.faults)
    data_dir = data_dir_of(checked.site, places)
    try:
        if data_dir.is_relative_to(places.data) or os.path.ismount(
            data_dir.parent
        ):  # a USB disk that comes later is judged by nvr
            site_room.check_budgets(checked.site, data_dir)
    except NvrError as error:
        return Outcome("site.yaml", (Fault(1, "ring_gb", str(error), error.hint),))
    count = len(checked.site.cameras)
    return Outcome(
        "site.yaml", (), (f"kotak {checked.site.box}, {count} kamera", f"box {checked.site.box}, {count} cameras")
    )


def judged_network(data: bytes, path: Path) -> Outcome:
    found, faults = network.read(data)
    if found is None:
        return Outcome("network.yaml", faults)
    wired = found.ethernet.address if found.ethernet else "DHCP"
    wireless = f", Wi-Fi {found.wifi.ssid}" if found.wifi else ""
    return Outcome("network.yaml", (), (f"kabel {wired}{wireless}", f"cable {wired}{wireless}"))


def judged_keys(data: bytes, path: Path) -> Outcome:
    faults, count = [], 0
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        what = fault_of_key(line)
        if what:
            faults.append(Fault(number, "", what, "Write one public key on each line: ssh-ed25519 AAAA... name"))
        count += 1
    if not faults and not count:
        faults.append(Fault(1, "", "there is no key in it", "Write one public key on each line."))
    return Outcome("authorized_keys", tuple(faults), (f"{count} kunci SSH", f"{count} SSH keys"))


def fault_of_key(line: str) -> str:
    """What is wrong with a line of authorized_keys, or "". Options before a key are not taken."""
    words = line.split()
    if "PRIVATE KEY" in line:
        return "this is a private key; it must never be on a card"
    if words[0] not in KEY_KINDS:
        return "does not begin with the kind of a public key"
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, ValueError):
        return "the key is cut off or damaged"
    kind = words[0].encode()
    return "" if blob.startswith(len(kind).to_bytes(4, "big") + kind) else "the key is cut off or damaged"


Judge = Callable[[bytes, Path], Outcome]


def take(name: str, judge: Judge, card: Path, target: Path, *, mode: int, group: int = 0) -> Outcome | None:
    """Move `card/name` to `target` if it is good; None when it is not there. Raises OSError for disks that fail."""
    source = card / name
    try:
        with open(source, "rb") as file:
            raw = file.read(FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(raw) > FILE_BYTES:
        return Outcome(name, (Fault(1, "", f"the file has more than {FILE_BYTES} bytes", "Is this the right file?"),))
    data = tidied(raw)
    outcome = judge(data, target)
    if outcome.faults:
        return outcome
    put(target, data, mode=mode, group=group)
    scrub(source)
    return outcome


def put(target: Path, data: bytes, *, mode: int, group: int = 0) -> None:
    """`target` holds `data`, durable on return; before that it holds what it held before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(target.name + ".new")
    with open(draft, "wb") as file:
        os.fchmod(file.fileno(), mode)
        if os.geteuid() == 0:
            os.fchown(file.fileno(), 0, group)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(target)
    sync_folder(target.parent)


def scrub(path: Path) -> None:
    """Overwrite a file in place, then remove it. It is renamed first: what a power cut leaves half overwritten is nobody's site file.

    A flash card may keep the old bytes in a place that no one can address but its own controller; against that only a new card helps.
    """
    doomed = path.with_name("taken.tmp")
    path.replace(doomed)
    sync_folder(path.parent)
    scrub_leftover(doomed)


def scrub_leftover(doomed: Path) -> None:
    try:
        with open(doomed, "r+b") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    doomed.unlink()
    sync_folder(doomed.parent)


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- RESULT.txt --------------------------------------------------------------------------------------


def result_text(outcomes: list[Outcome], *, has_site: bool, when: str, damage: str = "") -> str:
    """What an installer reads on the card; each sentence in both languages. `damage`: of the site file that is in force."""
    lines = [f"{when}", ""]
    for outcome in outcomes:
        if not outcome.faults:
            lines += [
                f"[OK] {outcome.name}: diterima ({outcome.told[0]})",
                f"[OK] {outcome.name}: accepted ({outcome.told[1]})",
                "",
            ]
            continue
        lines += [
            f"[SALAH] {outcome.name}: tidak dipakai, ada {len(outcome.faults)} kesalahan. Perbaiki baris ini lalu nyalakan lagi.",
            f"[WRONG] {outcome.name}: not used, it has {len(outcome.faults)} mistakes. Mend these lines and start the box again.",
        ]
        for fault in outcome.faults[:50]:
            where = f"{fault.key}: " if fault.key else ""
            lines.append(f"    baris/line {fault.line}: {where}{fault.what}")
            if fault.instead:
                lines.append(f"        -> {fault.instead}")
        lines.append("")
    if damage:
        lines += ["[SALAH] Berkas lokasi di dalam kotak ini rusak. Kotak merekam dengan berkas terakhir yang pernah merekam, kalau ada. Taruh site.yaml yang benar di folder ini.",
                  "[WRONG] The site file inside this box is damaged. The box records with the last one that recorded, if there is one. Put a good site.yaml into this folder.",
                  f"    {damage}", ""]  # fmt: skip
    if not has_site:
        lines += ["Kotak ini belum tahu kamera mana yang harus direkam: taruh site.yaml di folder ini.",
                  "This box does not know yet which cameras to record: put a site.yaml into this folder.", ""]  # fmt: skip
    elif any(outcome.faults for outcome in outcomes):
        lines += ["Pengaturan lama yang benar tetap dipakai.", "The good settings from before stay in force.", ""]
    return "\r\n".join(lines)


# -- what lives until the next start -----------------------------------------------------------------


def data_dir_of(site: site_room.Site | None, places: Places) -> Path:
    """Rings lie on the data partition, or on a USB disk (/disk) where the site file says so."""
    if site is not None and (site.storage.path == Path("/disk") or Path("/disk") in site.storage.path.parents):
        return Path("/disk/nvr")
    return places.data / "nvr"


def prepare(places: Places) -> None:
    """Write what systemd-networkd and -resolved, iwd, chrony, nftables and nvr.service read. What cannot be read any more is left out, and said."""
    site = None
    for path in (places.site, places.in_force):
        try:
            site = site or (site_room.check(path).site if path.exists() else None)
        except Exception as error:
            log.error("%s cannot be read: %s", path, error)
    found = network.Network()
    kept = places.system / "network.yaml"
    if kept.exists():
        read, faults = network.read(kept.read_bytes())
        if read is None:
            log.error(
                "network.yaml in force is damaged, every port asks for an address: line %d: %s",
                faults[0].line,
                faults[0].what,
            )
        found = read or found
    for name, text in network.networkd_files(found).items():
        write(places.run / "systemd/network" / name, text, 0o644)
    if found.wifi is not None:
        for name, text in network.iwd_files(found.wifi).items():
            write(places.iwd / name, text, 0o600)
        write(places.run / "nvr-setup/country", found.wifi.country + "\n", 0o644)
    if found.ntp:
        write(places.run / "chrony-dhcp/site.sources", "".join(f"server {host} iburst\n" for host in found.ntp), 0o644)
    port = site.web.port if site is not None else 8080
    write(places.run / "nvr-setup/page.nft", f"define page_port = {port}\n", 0o644)
    # What `nvrctl box find` looks for; %H is the host name of the moment (systemd.dnssd(5)).
    write(places.run / "systemd/dnssd/nvr.dnssd", f"[Service]\nName=%H\nType=_nvr._tcp\nPort={port}\n", 0o644)
    data_dir = data_dir_of(site, places)
    in_force = places.in_force
    environment = f"NVR_DATA={data_dir}\nNVR_SITE={in_force}\nNVR_GIVEN={places.site}\nNVR_PORT={port}\n"
    environment += f"{troubles.TOLD_BY}={places.run / 'nvr-setup'}\n"
    write(places.run / "nvr-setup/environment", environment, 0o644)
    write(places.run / "nvr-setup/hostname", host_name(site.box if site is not None else "nvr") + "\n", 0o644)
    zone = places.system / "localtime"
    wanted = f"/usr/share/zoneinfo/{site.time_zone.key if site is not None else 'UTC'}"
    if not zone.is_symlink() or os.readlink(zone) != wanted:
        zone.parent.mkdir(parents=True, exist_ok=True)
        draft = zone.with_name("localtime.new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(wanted)
        draft.replace(zone)


def write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def make_host_keys(folder: Path) -> None:
    """Once in the box's life. A power cut in between leaves none, and they are made at the next start."""
    if (folder / "ssh_host_ed25519_key").exists():
        return
    draft = folder.with_name("ssh.new")
    subprocess.run(["rm", "-rf", draft], check=True)
    draft.mkdir(mode=0o700, parents=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nvr", "-f", draft / "ssh_host_ed25519_key"], check=True
    )
    for path in draft.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_folder(draft)
    draft.replace(folder)
    sync_folder(folder.parent)


def take_all(places: Places) -> list[Outcome]:
    """Every file of the card. A card that cannot be written is said in the log; nothing else waits for it."""
    for leftover in places.card.glob("taken.tmp"):
        scrub_leftover(leftover)
    wanted: tuple[tuple[str, Judge, Path, int, int], ...] = (
        ("site.yaml", partial(judged_site, places=places), places.site, 0o640, NVR_GID),
        ("network.yaml", judged_network, places.system / "network.yaml", 0o600, 0),
        ("authorized_keys", judged_keys, places.system / "authorized_keys", 0o600, 0),
    )
    outcomes = []
    for name, judge, target, mode, group in wanted:
        try:
            outcome = take(name, judge, places.card, target, mode=mode, group=group)
        except OSError as error:
            log.error("%s of the card: %s", name, error)
            outcome = Outcome(
                name, (Fault(1, "", f"the box could not move it: {error.strerror}", "Another card helps, mostly."),)
            )
        if outcome is not None:
            log.log(logging.ERROR if outcome.faults else logging.INFO, "%s of the card: %s", name,
                    f"{len(outcome.faults)} faults, line {outcome.faults[0].line}: {outcome.faults[0].what}" if outcome.faults else "taken")  # fmt: skip
            outcomes.append(outcome)
    damage = damaged_in_force(places)
    if outcomes or damage or not has_site(places):
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        text = result_text(outcomes, has_site=has_site(places), when=when, damage=damage)
        try:
            put_on_card(places.card / "RESULT.txt", text)
        except OSError as error:
            log.error("RESULT.txt cannot be written: %s", error)
        write(places.run / "nvr-setup/RESULT.txt", text, 0o644)
    tell(places, outcomes, damage)
    return outcomes


def tell(places: Places, outcomes: list[Outcome], damage: str) -> None:
    """The same in a line each, for the light (light.py), and for the page and the hub (nvr/troubles.py)."""
    wrong = [
        f"{each.name}, line {each.faults[0].line}: {each.faults[0].what}{f' (and {len(each.faults) - 1} more)' if len(each.faults) > 1 else ''}"
        for each in outcomes
        if each.faults
    ]
    if not has_site(places) and not any(each.name == "site.yaml" for each in outcomes):
        wrong.append("there is no site.yaml on it")
    found = [Trouble(troubles.CARD, f"not taken: {'; '.join(wrong)}", 0)] if wrong else []
    if damage:
        found.append(Trouble(troubles.SITE, damage, 0))
    folder = places.run / "nvr-setup"
    folder.mkdir(parents=True, exist_ok=True)
    troubles.write(folder, found)
    (folder / troubles.NAME).chmod(0o644)


def has_site(places: Places) -> bool:
    """Whether there is anything to record by, good or not; nvr.service asks the same."""
    return places.site.exists() or places.in_force.exists()


def damaged_in_force(places: Places) -> str:
    """What is wrong with the copy in force, when nothing on the box can mend it: nvr goes on with what recorded last, if anything did."""
    if not places.in_force.exists():
        return ""
    try:
        fault = working_copy.first_fault(places.in_force.read_bytes(), places.in_force)
    except OSError as error:
        fault = f"it cannot be read: {error.strerror}"
    if fault:
        log.error("the site file in force, %s, is damaged: %s", places.in_force, fault)
    return fault


def put_on_card(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def main() -> int:
    systemd.set_up_logging("setup")
    places = Places()
    for step in (take_all, prepare):
        try:
            step(places)
        except Exception:
            log.exception("%s did not work; the box goes on starting", step.__name__)
    try:
        make_host_keys(places.system / "ssh")
        name = (places.run / "nvr-setup/hostname").read_text().strip()
        if re.fullmatch(r"[a-z0-9-]{1,63}", name):
            subprocess.run(["hostnamectl", "hostname", "--transient", name], check=False, timeout=20)
        # It started long before, without the page that is announced now.
        subprocess.run(
            ["systemctl", "--no-block", "reload-or-restart", "systemd-resolved.service"], check=False, timeout=20
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.error("host name, announcing or SSH keys: %s", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
