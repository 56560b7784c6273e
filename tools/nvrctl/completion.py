"""`nvrctl completion`: click knows how; this only says it."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tools.nvrctl.output import json_option, print_json


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print what makes the shell complete commands and options.

    \b
    Example:
        nvrctl completion bash > ~/.local/share/bash-completion/completions/nvrctl
    """
    from tools.nvrctl.program import nvrctl

    kind = get_completion_class(shell)
    assert kind is not None
    source = kind(nvrctl, {}, "nvrctl", "_NVRCTL_COMPLETE").source()
    print_json({"shell": shell, "source": source}) if as_json else click.echo(source)
