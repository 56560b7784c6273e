"""What Debian does not have in the version we test with: the wheels of requirements/box.txt by their hashes, and this project itself."""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

from image.base import is_foreign
from image.run import Toolbox, run

PYTHON = "3.13"  # trixie's
# Debian's own are linked with Debian's libraries and get its security updates.
FROM_DEBIAN = ("av", "numpy")
# pip matches the number of a platform exactly; trixie has glibc 2.41.
_GLIBC = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in range(17, 42)))
PLATFORMS = {
    architecture: tuple(f"{name}_{machine}" for name in _GLIBC)
    for architecture, machine in (("amd64", "x86_64"), ("arm64", "aarch64"))
}
# What Python does not load, what other steps put in its place, and the hub: a box is none.
LEFT_OUT = ("__pycache__", "*.pyc", "*.so", "units", "udev", "rauc", "boot", "etc", "hub", "node_modules")
INCLUDE = f"/usr/include/python{PYTHON}"


def make(into: Path, toolbox: Toolbox, *, architecture: str, lock: Path, nvr: Path, firmware: Path) -> None:
    """`into/site` is what goes onto Python's path; `into/packages.tsv` lists it."""
    wheels, site = into / "wheels", into / "site"
    wheels.mkdir()
    site.mkdir()
    wanted = into / "lock.txt"
    wanted.write_text(without(lock.read_text(), FROM_DEBIAN))
    options = [word for name in PLATFORMS[architecture] for word in ("--platform", name)]
    run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps",
         "--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON, *options, "-d", wheels, "-r", wanted])  # fmt: skip
    lines = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name}\t{version}\t{wheel.stat().st_size // 1024}\tPyPI\n")
        with zipfile.ZipFile(wheel) as file:
            file.extractall(site)
    for leftover in site.glob("*.data"):
        shutil.rmtree(leftover)
    shutil.rmtree(wheels)
    (into / "packages.tsv").write_text("".join(lines))
    for package in (nvr, firmware):
        shutil.copytree(
            package,
            site / package.name,
            ignore=shutil.ignore_patterns(*LEFT_OUT),
        )
    _build_the_c_files(toolbox, site / "nvr", architecture)


def without(lock: str, names: tuple[str, ...]) -> str:
    """A lock file without the packages in `names`; each has its hashes on lines of its own that end in a backslash."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(
        entry
        for entry in entries
        if re.match(r"[A-Za-z0-9._-]+", entry) is None or re.match(r"[A-Za-z0-9._-]+", entry)[0] not in names
    )  # type: ignore[index]


def _build_the_c_files(toolbox: Toolbox, package: Path, architecture: str) -> None:
    """nvr works without it; where it is built, it is for trixie's Python and the recipe's processor."""
    prefix = "aarch64-linux-gnu-" if architecture == "arm64" and is_foreign(architecture) else ""
    triplet = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[architecture]
    target = package / f"_fast.cpython-{PYTHON.replace('.', '')}-{triplet}.so"
    # pyconfig.h of another 64-bit Linux says the same about the sizes that the C files use.
    headers = package.parent.parent / "headers"
    own = headers / triplet / f"python{PYTHON}"
    own.mkdir(parents=True)
    (here,) = (toolbox.path / "usr/include").glob(f"*-linux-gnu/python{PYTHON}/pyconfig.h")
    shutil.copy(here, own)
    toolbox.run(
        [
            f"{prefix}gcc",
            "-O2",
            "-g0",
            "-shared",
            "-fPIC",
            f"-I{headers}",
            f"-I{INCLUDE}",
            f"-ffile-prefix-map={package}=nvr",
            "-o",
            target,
            *sorted((package / "fast").glob("*.c")),
        ]
    )
    shutil.rmtree(package / "fast")
    shutil.rmtree(headers)
    os.utime(target, (0, 0))
