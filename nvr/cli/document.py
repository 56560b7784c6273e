"""docs/commands.md: every command with its help, as `nvr COMMAND --help` prints it. `make docs` runs this."""

from __future__ import annotations

from collections.abc import Iterator

import click

from nvr.cli.command import nvr

_INTRODUCTION = """\
# Commands

<!-- Made by `make docs` from the commands themselves; changes here are lost. -->

Exit status: 0 good, 1 a fault was found or something could not be done, 2 wrong use. An error is one line that says what
happened and one that says what to do. Times are ISO 8601 with an offset; without one they are meant at the site.
"""

_SHAPES = """\
## What --json prints

| command | prints |
| --- | --- |
| `nvr run` | one line each second: what the recorder says (`"kind": "status"`); before it `{"kind": "page", "address", "link"}` |
| `nvr site check` | `{"ok", "faults": [{"line", "key", "what", "instead"}], "warnings": [the same]}` |
| `nvr ring ls` | `{"streams": [{"stream", "segments", "from", "to", "bytes", "pictures", "codec", "width", "height"}]}` |
| `nvr ring check` | `{"streams", "fragments", "pictures", "faults": [{"stream", "segment", "offset", "what"}]}` |
| `nvr ring rebuild` | `{"streams": [{"stream", "fragments"}]}` |
| `nvr ring dump` | one line for each fragment: its position and its commit record |
| `nvr ring hold`, `release` | `{"id", "stream", "from", "to", "reason"}`; `{"released"}`, or `{"holds": [..]}` without ID |
| `nvr ledger` | `{"streams": [{"stream", "total_s", "recorded_s", "missing_s", "by_cause": {cause: seconds}, "from", "to"}]}`; `"gaps"` with `--gaps` |
| `nvr clip cut` | `{"file", "stream", "from", "to", "bytes", "fragments", "pictures", "gaps": [{"from", "to", "cause"}], "fingerprint"}`; with `--parts` `{"clips": [..]}` |
| `nvr clip verify` | `{"genuine", "box", "camera", "from", "to", "reasons": [..]}` and more that the clip says |
| `nvr clip key` | `{"fingerprint", "public_key"}` |
| `nvr model add` | its card: `{"name", "sha256", "size_bytes", "licence", "origin", "kinds", "width", "height", ..}` |
| `nvr model ls` | `{"models": [cards, or {"name", "error"}]}` |
| `nvr model check` | its card, and `{"ran", "why_not"}` |
| `nvr web link` | `{"link"}` |
| `nvr hub run` | one line when it listens: `{"kind": "hub", "address"}` |
| `nvr hub init` | `{"data", "revision"}` |
| `nvr hub migrate` | `{"before", "after"}`: revisions of the tables; before is null where there were none |
| `nvr hub user` | `{"user", "roles", "link"}`; link is null with --ask-password |
| `nvr hub token` | `{"token", "user", "scopes"}` |
| `nvr hub code` | `{"code", "tenant", "box", "site", "days"}` |

A command that fails prints `{"error", "hint"}`.
"""


def commands(
    group: click.Group, path: str, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """(full name, command, context) of `group` and everything below it."""
    context = click.Context(
        group, info_name=path if parent is None else group.name, parent=parent, **group.context_settings
    )
    yield path, group, context
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}", context)
        else:
            yield f"{path} {name}", command, click.Context(command, info_name=name, parent=context)


def commands_document() -> str:
    """All of docs/commands.md."""
    parts = [_INTRODUCTION]
    for name, command, context in commands(nvr, "nvr"):
        context.terminal_width = 110
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join([*parts, _SHAPES])


if __name__ == "__main__":
    print(commands_document(), end="")
