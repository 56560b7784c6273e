"""docs/commands-nvrctl.md: every command with its help, as `nvrctl COMMAND --help` prints it. `make docs` runs this."""

from __future__ import annotations

from nvr.cli import document
from tools.nvrctl.program import nvrctl

_INTRODUCTION = """\
# Commands of nvrctl

<!-- Made by `make docs` from the commands themselves; changes here are lost. -->

What an installer does on a laptop; [guide/install.md](guide/install.md) goes through a day of it. Exit status: 0 good, 1 a fault was found or
something could not be done, 2 wrong use. An error is one line that says what happened and one that says what to do. Progress and
questions go to standard error, so that standard output is what a program wants. No colours without a terminal, or with
`NO_COLOR`.
"""

_SHAPES = """\
## What --json prints

| command | prints |
| --- | --- |
| `nvrctl site new` | `{"files"}` |
| `nvrctl site check` | `{"ok", "files", "faults": [{"file", "line", "key", "what", "instead"}], "warnings": [the same]}` |
| `nvrctl site show` | `{"boxes": [{"file", "site", "box", "time_zone", "hub", "has_code", "disk_bytes", "cameras": [..]}]}` |
| `nvrctl camera find` | `{"cameras": [{"host", "service", "maker", "model", "firmware", "serial", "clock_error_s", "uses_ntp", "streams": [..], "trouble"}], "rtsp_only", "proposal"}` |
| `nvrctl camera check` | `{"url", "is_fit", "seconds", "pictures", "sizes", "fps", "gops", "bits_per_s", "b_pictures", "lost_packets", "clock_ahead_s", "findings": [{"kind", "is_unfit", "what", "how"}], ..}` |
| `nvrctl camera setup` | `{"changed": [{"what", "before", "after"}]}` |
| `nvrctl card ls` | `{"disks": [{"path", "size_bytes", "model", "mounts", "contents", "is_card", "why_not", ..}]}` |
| `nvrctl card write` | `{"image", "cards": [{"device", "box", "site", "code_hash", "kind", "detail", "real_bytes", "write_s", "read_s", "read_past_cache"}], "labels", "codes"}`; `kind` is `good`, `lies about its size`, `drops writes`, `gone`, `stalled`, `stopped` or `failed` |
| `nvrctl card watch` | one line for each card: the fields of a card of `card write`, with `image`, `labels` and `codes` |
| `nvrctl box find` | `{"boxes": [{"box", "address", "port", "page", ..}]}` |
| `nvrctl box status` | `{"box", "site", "ok", "streams", "disk", "clock", ..}` as the page's API has it; through the hub `{"boxes": [..]}` |
| `nvrctl box aim` | one line for each picture: `{"stream", "sharpness", "best", "width", "height"}` |
| `nvrctl box logs` | the journal's own JSON; through the hub one `{"line"}` for each line |
| `nvrctl hub code import` | `{"new", "known", "revoked", "other hub"}`: names of boxes |
| `nvrctl doctor` | `{"ok", "version", "checks": [{"what", "state", "found", "hint"}]}` |

A command that fails prints `{"error", "hint"}`.
"""


def commands_document() -> str:
    """All of docs/commands-nvrctl.md."""
    nvrctl.load_all()
    parts = [_INTRODUCTION]
    for name, command, context in document.commands(nvrctl, "nvrctl"):
        context.terminal_width = 110
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join([*parts, _SHAPES])


if __name__ == "__main__":
    print(commands_document(), end="")
