"""Starts programs, and is the only file of this room that does: on this machine, or inside the toolbox.

The toolbox is a tree of Debian 13 with the programs that build and boot images (`toolbox.py`): those of the machine are mostly
too old. A program in it sees the folders it is given under their own names, the machine's /dev, and nothing else. As root it
gets mounts of its own; without root a user namespace as well, which needs newuidmap and lines in /etc/subuid.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvr.errors import NvrError

# The mounts go away with the namespace, whatever happens to the program.
_INSIDE = """
set -e
toolbox=$1; shift
mount --rbind /dev "$toolbox/dev"
mount -t proc proc "$toolbox/proc"
while [ "$1" != -- ]; do mkdir -p "$toolbox$1"; mount --bind "$1" "$toolbox$1"; shift; done
shift
exec chroot "$toolbox" "$@"
"""
TAIL_LINES = 15


class ProgramFailed(NvrError):
    """A program ended badly; the message has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Ran:
    output: str  # standard output
    errors: str


def run(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
    limit_s: float = 3600,
    shown: str = "",
) -> Ran:
    """Run a program to its end. Raises ProgramFailed when it is missing, too slow, or ends with anything but 0."""
    words = [os.fspath(word) for word in arguments]
    shown = shown or shlex.join(words if len(words) < 12 else [*words[:11], "..."])
    try:
        done = subprocess.run(
            words,
            input=given,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
            timeout=limit_s,
            check=False,
        )
    except FileNotFoundError:
        raise ProgramFailed(f"there is no program {words[0]}", hint=f"Install it: apt install {words[0]}") from None
    except subprocess.TimeoutExpired:
        raise ProgramFailed(f"{shown}: not finished within {limit_s:.0f} s") from None
    output, errors = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode != 0:
        tail = "\n".join((output + errors).strip().splitlines()[-TAIL_LINES:])
        raise ProgramFailed(f"{shown} ended with status {done.returncode}:\n{tail}")
    return Ran(output, errors)


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Runs programs inside the tree at `path`; `folders` are seen there under the same names."""

    path: Path
    folders: tuple[Path, ...]

    def command(self, arguments: Sequence[str | os.PathLike[str]], *, folders: Sequence[Path] = ()) -> list[str]:
        """The command line that starts a program inside; for what must be started in another way than `run`."""
        seen = [str(folder) for folder in (*self.folders, *folders)]
        own = [] if os.geteuid() == 0 else ["--user", "--map-root-user", "--map-auto"]
        words = [os.fspath(word) for word in arguments]
        return ["unshare", *own, "--mount", "sh", "-c", _INSIDE, "sh", str(self.path), *seen, "--", *words]

    def run(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        given: bytes = b"",
        environment: Mapping[str, str] | None = None,
        folders: Sequence[Path] = (),
        limit_s: float = 3600,
    ) -> Ran:
        """As run(), inside. The environment of the machine stays outside, except for what programs need to reach a mirror."""
        outside = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        inside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **outside, **(environment or {})}
        words = ["env", "-i", "LC_ALL=C.UTF-8", *(f"{name}={value}" for name, value in inside.items()), *arguments]
        shown = " ".join(os.fspath(word) for word in arguments)[:300]
        return run(self.command(words, folders=folders), given=given, limit_s=limit_s, shown=f"in the toolbox: {shown}")
