"""The tree of Debian 13 in which images are built and booted, made by the machine's own mmdebstrap in a minute."""

from __future__ import annotations

import os
from pathlib import Path

from image.mirror import KEYRING, Mirror
from image.run import run
from nvr.errors import NvrError

SUITE = "trixie"
PACKAGES = (
    "ca-certificates", "debian-archive-keyring", "mmdebstrap", "python3", "python3-pip", "kmod", "systemd", "cpio", "zstd", "xz-utils",
    "gcc", "libc6-dev", "libpython3-dev",
    "erofs-utils", "mtools", "dosfstools", "e2fsprogs", "fdisk", "squashfs-tools", "rauc", "openssl", "u-boot-tools",
    "qemu-utils", "qemu-system-x86", "u-boot-qemu",
    "openssh-client", "netcat-openbsd",
)  # fmt: skip
# What builds and boots arm64, where the machine is another: only fetched for a recipe that needs it.
FOREIGN = {"arm64": ("qemu-user", "qemu-system-arm", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross")}


def make(into: Path, mirror: Mirror, packages: tuple[str, ...]) -> None:
    """Raises NvrError where mmdebstrap or Debian's keys are missing."""
    if not KEYRING.exists():
        raise NvrError(f"{KEYRING} is missing", hint="apt install debian-archive-keyring mmdebstrap")
    run([
        "mmdebstrap", "--variant=apt", "--format=directory", f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        f"--include={','.join(packages)}", f"--keyring={KEYRING}", *(f"--aptopt={line}" for line in mirror.settings),
        '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*", SUITE, into / "tree", *mirror.sources(SUITE),
    ])  # fmt: skip
