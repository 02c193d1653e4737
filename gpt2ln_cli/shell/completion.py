"""What the shell may complete: models, layers, tables and files; Click itself completes commands, options and choices.

Nothing here ever speaks to the network, and what goes wrong while completing offers nothing and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click
from click.shell_completion import (
    CompletionItem,
    FishComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
)

if TYPE_CHECKING:
    # Before Click 8.5 it is no generic class.
    Item = CompletionItem[str]

VARIABLE = "_GPT2LN_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


class _WholeItemsFish(FishComplete):
    """Click's fish, but a value with commas in it, as ``0-3,11`` has, stays whole."""

    source_template = FishComplete.source_template.replace('string split "," ', 'string split --max 1 "," ')


add_completion_class(_WholeItemsFish)


def script(program: click.Command, shell: str) -> str:
    """What one of ``SHELLS`` must read to complete the program's words."""
    shells = get_completion_class(shell)
    assert shells is not None
    return shells(program, {}, "gpt2ln", VARIABLE).source()


def answer(program: click.Command, instruction: str) -> int:
    """Write what the shell asks for, a script (``bash_source``) or items (``bash_complete``); return the exit code."""
    try:
        return shell_complete(program, {}, "gpt2ln", VARIABLE, instruction)
    except Exception:
        return 1


def _quietly(
    offer: Callable[[click.Context, str], Sequence[Item]],
) -> Callable[[click.Context, click.Parameter, str], list[Item]]:
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[Item]:
        try:
            return list(offer(context, incomplete))
        except Exception:
            return []

    return complete


@_quietly
def files(_: click.Context, incomplete: str) -> list[Item]:
    """Files, by the shell's own means."""
    return [CompletionItem(incomplete, type="file")]


@_quietly
def models(_: click.Context, incomplete: str) -> list[Item]:
    """Bundled names, names in the Hugging Face cache, and files and folders."""
    from gpt2ln_cli.checkpoint import at_hand

    names = dict.fromkeys(checkpoint.name for checkpoint in at_hand())
    # Click's script for bash forgets what came before "file".
    return [
        CompletionItem(incomplete, type="file"),
        *(CompletionItem(name) for name in names if name.startswith(incomplete)),
    ]


@_quietly
def layers(context: click.Context, incomplete: str) -> list[Item]:
    """Layers of the model given so far, if it is on this disk; also after a comma, and as the end of a range."""
    from gpt2ln_cli.checkpoint import DEFAULT_MODEL, at_hand, is_local, locate
    from gpt2ln_cli.sites import FINAL

    name = context.params.get("model") or context.params.get("model_a") or DEFAULT_MODEL
    if is_local(name):
        numbers = range(locate(name, prefix=context.params.get("prefix")).config.n_layer)
    else:
        numbers = range({checkpoint.name: checkpoint.config.n_layer for checkpoint in at_hand()}[name])
    given, comma, part = incomplete.rpartition(",")
    first, dash, _ = part.partition("-")
    offered = (
        [f"{first}-{number}" for number in numbers if number > int(first)] if dash else [*map(str, numbers), FINAL]
    )
    return [CompletionItem(given + comma + value) for value in offered if value.startswith(part)]


@_quietly
def tables(context: click.Context, incomplete: str) -> list[Item]:
    """Tables of the command's record."""
    from gpt2ln_cli.shell.output import table_names

    offered = table_names(context.command.name or "")
    return [CompletionItem(name) for name in offered if name.startswith(incomplete)]
