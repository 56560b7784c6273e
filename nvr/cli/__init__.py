"""The `nvr` command: one file per group; parses, calls a room, prints. `command.py` puts them together.

Exit status: 0 good, 1 a fault was found or something could not be done, 2 wrong use. Heavy rooms are imported inside
the command that needs them, so that help is quick and a laptop needs no camera packages.
"""

from __future__ import annotations


def main() -> None:
    from nvr.cli.command import nvr

    nvr(prog_name="nvr")
