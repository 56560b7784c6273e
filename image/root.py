"""The root of a box: the base without what nobody uses, our packages, the files of `firmware/`, and byte code that fits a read-only disk.

The base is in the cache and stays as it is: its files are linked, not copied, and whatever changes is a new file.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from image.cache import Made
from image.run import Toolbox, run

NVR_ID = 900  # firmware/firstboot.py has it too: files on the data partition outlive an image
NOLOGIN = "/usr/sbin/nologin"
ENABLED = (
    "nvr-setup.service", "nvr.service", "nvr-unset-page.service", "nvr-slot-good.service", "nvr-keep.timer", "nvr-wifi.timer", "nvr-update-ordered.path", "nvr-update-ordered-disk.path",
    "nvr-light.service", "nvr-light.path", "nvr-light-disk.path",
    "systemd-networkd.service", "systemd-resolved.service", "iwd.service", "chrony.service", "nftables.service", "ssh.service",
    "fstrim.timer",
)  # fmt: skip
# What makes sense on a machine whose system changes, and costs seconds at every start of one whose /var is always new.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
    "systemd-hwdb-update.service", "systemd-journal-catalog-update.service", "systemd-update-done.service", "ldconfig.service",
    "systemd-firstboot.service", "systemd-machine-id-commit.service", "systemd-timesyncd.service", "sshd-keygen.service",
    "systemd-networkd-wait-online.service", "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount", "modprobe@efi_pstore.service", "getty.target", "console-getty.service",
)  # fmt: skip
FOLDERS = ("data", "disk", "boot/selector", "var", "tmp", "run", "proc", "sys", "dev")
# What root would make in the data directory, the service could not change.
NVR = """#!/bin/sh
[ "$(id -u)" = 0 ] && exec setpriv --reuid=nvr --regid=nvr --init-groups /usr/bin/python3 -m nvr "$@"
exec /usr/bin/python3 -m nvr "$@"
"""
SCRIPT = '#!/bin/sh\nexec /usr/bin/python3 -m firmware.{module} {arguments}"$@"\n'


def make(
    into: Path, toolbox: Toolbox, *, base: Made, kernel: Made, wheels: Made, firmware: Path, certificate: Path, prune: tuple[str, ...],
    compatible: str, version: str, watchdog_s: int, files: tuple[tuple[str, str, str], ...],
) -> None:  # fmt: skip
    """`into/tree`."""
    tree = into / "tree"
    run(["cp", "-al", base.path / "tree", tree])
    for path in tree.glob("usr/lib/python3*/**/__pycache__"):
        remove(path)
    for name in FOLDERS:
        (tree / name).mkdir(parents=True, exist_ok=True)
    (kernel_version,) = (path.name for path in (kernel.path / "modules").iterdir())
    modules = tree / "usr/lib/modules" / kernel_version
    modules.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(kernel.path / "modules" / kernel_version, modules)
    for _, source, target in files:
        if target.startswith("/"):
            (tree / target[1:]).mkdir(parents=True, exist_ok=True)
            for path in sorted((kernel.path / "tree").glob(source)):
                shutil.copy2(path, tree / target[1:] / path.name, follow_symlinks=False)

    put_firmware(tree, firmware, {"@COMPATIBLE@": compatible, "@WATCHDOG_S@": str(watchdog_s)})
    own = tree / "usr/lib/nvr"
    own.mkdir(exist_ok=True)
    replace(own / "version", version + "\n")
    replace(own / "slots", SCRIPT.format(module="slots", arguments=""), 0o755)
    replace(own / "before-install", SCRIPT.format(module="update", arguments="before-install "), 0o755)
    replace(tree / "usr/bin/nvr-update", SCRIPT.format(module="update", arguments=""), 0o755)
    replace(tree / "usr/bin/nvr", NVR, 0o755)
    replace(tree / "etc/rauc/keyring.pem", certificate.read_text())

    add_account(tree)
    remove(tree / "etc/hostname")  # a name in there would win over the site file's
    replace(tree / "etc/machine-id", "")  # empty: systemd makes one that lives until the next start
    remove(tree / "etc/localtime")
    (tree / "etc/localtime").symlink_to("/data/system/localtime")
    site = tree / "usr/local/lib" / "python3.13" / "dist-packages"
    site.parent.mkdir(parents=True, exist_ok=True)
    remove(site)
    shutil.copytree(wheels.path / "site", site)
    for pattern in prune:
        for path in tree.glob(pattern):
            remove(path)
    for path in site.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    # By content, never looked at again: times in a read-only file system are all the same, and Python would compile at every start.
    toolbox.run(["sh", "-c", 'cd "$1" && python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash -s "$1" -p / usr/lib/python3* usr/local/lib/python3* || true', "sh", tree],
                environment={"PYTHONHASHSEED": "0"})  # fmt: skip
    toolbox.run(["systemctl", f"--root={tree}", "enable", *ENABLED])
    toolbox.run(["systemctl", f"--root={tree}", "mask", *MASKED])
    toolbox.run(["systemctl", f"--root={tree}", "set-default", "multi-user.target"])


def put_firmware(tree: Path, firmware: Path, words: dict[str, str]) -> None:
    """The files of `firmware/` where the system looks for them; @WORDS@ in them are the recipe's."""
    targets = {"units": "usr/lib/systemd/system", "udev": "usr/lib/udev/rules.d", "rauc": "etc/rauc", "etc": "etc"}
    for folder, target in targets.items():
        for path in sorted((firmware / folder).rglob("*")):
            if path.is_file():
                text = path.read_text("utf-8")
                for word, value in words.items():
                    text = text.replace(word, value)
                replace(tree / target / path.relative_to(firmware / folder), text)


def add_account(tree: Path) -> None:
    """The user nvr; nobody has a password, root is reached with a key only."""
    lines = {
        "passwd": f"nvr:x:{NVR_ID}:{NVR_ID}:records and serves the page:/nonexistent:{NOLOGIN}\n",
        "group": f"nvr:x:{NVR_ID}:\n",
        "shadow": "nvr:!*:1::::::\n",
        "gshadow": "nvr:!*::\n",
    }
    for name, line in lines.items():
        path = tree / "etc" / name
        state = path.stat()
        text = path.read_text()
        if name == "shadow":  # root: no password; the day of the last change would differ from build to build
            text = "".join(f"{each.split(':')[0]}:*:1:0:99999:7:::\n" for each in text.splitlines())
        replace(path, text + line, state.st_mode & 0o777)
        os.chown(path, state.st_uid, state.st_gid)
    for name in ("passwd-", "group-", "shadow-", "gshadow-", ".pwd.lock"):
        remove(tree / "etc" / name)


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """A new file in the place of another, which may be a link into the cached base."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(path)
    path.write_text(text)
    path.chmod(mode)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
