"""The base root: Debian's packages as the recipe lists them, installed by mmdebstrap, and the list of what that became.

For another architecture dpkg and the packages' scripts run under qemu-user; that is most of the 17 minutes such a build takes, and the
reason why nothing that can be done from outside is done in here: no kernel, no initramfs, no depmod, no byte code.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from image.mirror import KEYRING, Mirror
from image.run import Toolbox, run
from nvr.errors import NvrError

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
# ELF header of a 64-bit little-endian ARM program, and which of its bytes count (binfmt_misc; as qemu-user's own file has it).
_ARM64_MAGIC = rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_ARM64_MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def is_foreign(architecture: str) -> bool:
    return platform.machine() != MACHINES[architecture]


def run_foreign_programs(toolbox: Toolbox) -> None:
    """Have the kernel start arm64 programs with the toolbox's qemu-user. Raises NvrError when it cannot be asked to."""
    if not (BINFMT / "register").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT])
    if any(BINFMT.glob("*aarch64*")):
        return
    interpreter = os.fsencode(toolbox.path / "usr/bin/qemu-aarch64")
    try:
        # F: the kernel opens the interpreter now, so that trees need no copy of it.
        (BINFMT / "register").write_bytes(
            b":nvr-aarch64:M::" + _ARM64_MAGIC + b":" + _ARM64_MASK + b":" + interpreter + b":F"
        )
    except OSError as error:
        raise NvrError(
            f"cannot register an interpreter for arm64 programs: {error.strerror}",
            hint="As root: apt install qemu-user-binfmt. Or build on an arm64 machine.",
        ) from error


def make(
    into: Path, toolbox: Toolbox, mirror: Mirror, *, architecture: str, suite: str, packages: tuple[str, ...], backports: tuple[str, ...],
    without: tuple[str, ...], source_date: int,
) -> None:  # fmt: skip
    """`into/tree` is the root, `into/packages.tsv` has name, version, size and source of every package in it."""
    if is_foreign(architecture):
        run_foreign_programs(toolbox)
    tree = into / "tree"
    newer = [f'--aptopt=APT::Default-Release "{suite}"'] if backports else []
    named = [*packages, *(f"{name}/{suite}-backports" for name in backports)]
    toolbox.run([
        "mmdebstrap", "--variant=apt", "--format=directory", "--mode=root", f"--architectures={architecture}", "--skip=check/qemu",
        f"--include={' '.join(named)}", f"--keyring={KEYRING}", *(f"--aptopt={line}" for line in mirror.settings), *newer,
        '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"',
        # apt-extracttemplates and the page cache's flushes cost minutes under emulation.
        "--aptopt=DPkg::Pre-Install-Pkgs {};", "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in without), "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--essential-hook=printf '#!/bin/sh\\nexit 101\\n' > \"$1/usr/sbin/policy-rc.d\" && chmod 755 \"$1/usr/sbin/policy-rc.d\"",
        "--customize-hook=rm -f \"$1/usr/sbin/policy-rc.d\"",
        suite, tree, *mirror.sources(suite, backports=bool(backports)),
    ], environment={"SOURCE_DATE_EPOCH": str(source_date), "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    listed = toolbox.run([
        "dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package}\\t${Version}\\t${Installed-Size}\\t${source:Package}\\n",
    ])  # fmt: skip
    (into / "packages.tsv").write_text(listed.output)
