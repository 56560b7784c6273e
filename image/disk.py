"""The disk: selector, two boot slots, two root slots, data. Put together without mounting anything and without root.

One layout for every board. Slot B is empty on a new card: the first update fills it. The selector holds what the bootloader reads
before it knows which slot, the state it decides by (firmware/slots.py), and the folder `site` for the installer.
"""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from firmware import slot_state, slots, tryboot
from image.cache import Made
from image.run import Toolbox
from image.slots import MIB, fat
from nvr.errors import NvrError

SECTOR = 512
# UEFI 2.10, 5.3.3: what a partition is for; UAPI discoverable partitions for data.
EFI_SYSTEM, BASIC_DATA, LINUX = (
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
    "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
)
# Of its own: systemd-repart finds what it may grow by the type.
DATA = "6E767200-0000-4000-8000-0000000000DA"
DISK_ID = "6E767200-0000-4000-8000-0000000000FF"
FIRST_STATE = slot_state.State(left_b=0)  # nothing is in slot B yet
END_MIB = 1  # the second GPT lies at the end
EMPTY_SLOT_BYTES = MIB  # a boot sector and two FATs' beginning; the super block of an erofs is at 1 KiB
README = """Taruh site.yaml di folder ini sebelum kartu dipasang; network.yaml dan authorized_keys bila perlu.
Sesudah dinyalakan, RESULT.txt di folder ini mengatakan apakah semuanya diterima.

Put site.yaml into this folder before the card goes into the box; network.yaml and authorized_keys if needed.
After a start RESULT.txt in this folder says whether everything was accepted.
"""


@dataclass(frozen=True, slots=True)
class Partition:
    name: str
    kind: str
    start: int  # in bytes
    size: int


def layout(*, first_mib: int, selector_mib: int, boot_mib: int, root_mib: int, data_mib: int) -> tuple[Partition, ...]:
    """The partitions in order; numbers 1 to 6 are what boot.cmd and the Raspberry Pi's autoboot.txt count on."""
    sizes = (
        ("selector", EFI_SYSTEM, selector_mib), ("bootA", BASIC_DATA, boot_mib), ("bootB", BASIC_DATA, boot_mib),
        ("rootA", LINUX, root_mib), ("rootB", LINUX, root_mib), ("data", DATA, data_mib),
    )  # fmt: skip
    found, start = [], first_mib * MIB
    for name, kind, size_mib in sizes:
        found.append(Partition(name, kind, start, size_mib * MIB))
        start += size_mib * MIB
    return tuple(found)


def size_bytes(partitions: tuple[Partition, ...]) -> int:
    return partitions[-1].start + partitions[-1].size + END_MIB * MIB


def table(partitions: tuple[Partition, ...]) -> str:
    """What sfdisk reads."""
    head = [
        "label: gpt",
        f"label-id: {DISK_ID}",
        "unit: sectors",
        f"first-lba: {min(2048, partitions[0].start // SECTOR)}",
    ]
    rows = []
    for number, each in enumerate(partitions, start=1):
        more = ", attrs=LegacyBIOSBootable" if number == 1 else ""
        uuid = f"{DISK_ID[:-2]}{number:02X}"
        rows.append(
            f"start={each.start // SECTOR}, size={each.size // SECTOR}, type={each.kind}, uuid={uuid}, name={each.name}{more}"
        )
    return "\n".join([*head, "", *rows]) + "\n"


def hybrid(mbr: bytes, selector: Partition) -> bytes:
    """The protective MBR with the selector as its first entry: a Raspberry Pi 3 looks for a FAT there and knows no GPT.

    The protecting entry comes second, from the GPT's header up to the selector.
    """

    def entry(kind: int, start: int, size: int) -> bytes:
        return struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start, size)

    first = selector.start // SECTOR
    entries = entry(0x0C, first, selector.size // SECTOR) + entry(0xEE, 1, first - 1)
    return mbr[:446] + entries.ljust(64, b"\0") + b"\x55\xaa"


def make_selector(
    into: Path, toolbox: Toolbox, *, kernel: Made, boot_script: Path, files: tuple[tuple[str, str, str], ...], config_txt: str,
    loader: str, architecture: str, source_date: int, size_mib: int, state: bytes, autoboot: str,
) -> None:  # fmt: skip
    """`into/selector.img`. `state` and `autoboot` are what the loader decides by at first: slot A has its attempts, B is empty."""
    tree = into / "tree"
    (tree / "site").mkdir(parents=True)
    (tree / "site/README.txt").write_text(README.replace("\n", "\r\n"))
    for _, source, target in files:
        if target[0] not in "@/":
            for path in sorted((kernel.path / "tree").glob(source)):
                place = tree / target / path.name if target.endswith("/") else tree / target
                place.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.copytree(path, place, dirs_exist_ok=True)
                else:
                    shutil.copy(path, place)
            if not any((kernel.path / "tree").glob(source)):
                raise NvrError(
                    f"the packages hold no {source}", hint="Look into the package: its files move between releases."
                )
    if loader == "u-boot":
        script = into / "boot.scr"
        machine = {"amd64": "x86_64", "arm64": "arm64"}[architecture]
        toolbox.run(["mkimage", "-A", machine, "-T", "script", "-C", "none", "-n", "nvr", "-d", boot_script, script],
                    environment={"SOURCE_DATE_EPOCH": str(source_date)}, folders=[boot_script.parent])  # fmt: skip
        shutil.move(script, tree / "boot.scr")
        if config_txt:
            (tree / "config.txt").write_text(config_txt)
    else:
        (tree / tryboot.NAME).write_text(autoboot)
    for name in slots.COPIES:
        (tree / name).write_bytes(state)
    fat(toolbox, tree, into / "selector.img", size_mib * MIB, "NVR", "4e565253", source_date)
    shutil.rmtree(tree)


def make_disk(
    into: Path, toolbox: Toolbox, *, selector: Made, boot: Made, root: Made, kernel: Made, files: tuple[tuple[str, str, str], ...],
    sizes: tuple[int, int, int, int, int], is_hybrid: bool, source_date: int,
) -> None:  # fmt: skip
    """`into/disk.img`, sparse, and `into/mapped.json`: what of it must be written to a card (`mapped`)."""
    names = ("first_mib", "selector_mib", "boot_mib", "root_mib", "data_mib")
    partitions = layout(**dict(zip(names, sizes, strict=True)))
    disk = into / "disk.img"
    with open(disk, "wb") as file:
        file.truncate(size_bytes(partitions))
    told = toolbox.run(["sfdisk", "--quiet", "--no-tell-kernel", disk], given=table(partitions).encode())
    if told.errors.strip():  # "Unknown script header ... ignore": a word that it does not know is no failure to it
        raise NvrError(f"sfdisk: {told.errors.strip()}", hint="Mend what image/disk.py gives it.")
    data = into / "data.img"
    with open(data, "wb") as file:
        file.truncate(partitions[-1].size)
    dates = {
        "SOURCE_DATE_EPOCH": str(source_date),
        "E2FSPROGS_FAKE_TIME": str(source_date),
        "E2FSPROGS_LIBUUID_TIME": str(source_date),
    }
    # Sizes that fit the card it grows on: by itself mke2fs takes blocks of 1 KiB, an inode for every 4 KiB (a sixteenth of the card) and a
    # journal of 4 MiB for something so small, and all three stay for ever.
    toolbox.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-i", "262144", "-J", "size=16", "-m", "0", "-L", "nvr-data", "-U", f"{DISK_ID[:-2].lower()}06", "-O", "^metadata_csum_seed,^orphan_file",
                 "-E", f"hash_seed={DISK_ID.lower()},lazy_itable_init=0,nodiscard,root_owner=0:0,resize=268435456", data], environment=dates)  # fmt: skip
    sources = {
        "selector": selector.path / "selector.img",
        "bootA": boot.path / "boot.img",
        "rootA": root.path / "root.img",
        "data": data,
    }
    with open(disk, "r+b") as file:
        for each in partitions:
            if each.name in sources:
                copy_to(sources[each.name], file, each.start)
        if is_hybrid:
            file.seek(0)
            mbr = file.read(SECTOR)
            file.seek(0)
            file.write(hybrid(mbr, partitions[0]))
        for _, source, target in files:
            if target.startswith("@"):
                (blob,) = (kernel.path / "tree").glob(source)
                copy_to(blob, file, int(target[1:]) * 1024)
    sizes_bytes = {name: source.stat().st_size for name, source in sources.items()}
    (into / "mapped.json").write_text(json.dumps(must_be_written(partitions, sizes_bytes)) + "\n")
    data.unlink()


def copy_to(source: Path, file: BinaryIO, at: int) -> None:
    """The image of a partition or a loader, in its place."""
    file.seek(at)
    with open(source, "rb") as from_file:
        shutil.copyfileobj(from_file, file, MIB)


def must_be_written(partitions: tuple[Partition, ...], sources: dict[str, int]) -> list[tuple[int, int]]:
    """The stretches of a disk that a card must hold as they are, zeros too, as (first byte, end). `sources`: bytes of each image.

    A used card still has what was on it wherever nothing is written. The zeros of a file system mean something: free clusters
    of a FAT, empty inodes of an ext4. So every image is written whole, as are the tables before and behind; of an empty slot
    as much as makes sure that nothing of an earlier life starts from it.
    """
    found = [(0, partitions[0].start)]
    for each in partitions:
        found.append((each.start, each.start + sources.get(each.name, EMPTY_SLOT_BYTES)))
    end = partitions[-1].start + partitions[-1].size
    found.append((end, end + END_MIB * MIB))
    return found


def mapped(made: Made) -> list[tuple[int, int]]:
    """What `make_disk` said of a disk."""
    return [(start, end) for start, end in json.loads((made.path / "mapped.json").read_text())]
