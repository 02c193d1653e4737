"""Options that several commands share, those that belong together as one argument of the command."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.output import FORMATS
from gpt2ln_cli.shell import completion
from gpt2ln_cli.shell.output import Output
from gpt2ln_cli.shell.pager import NO_PAGER
from gpt2ln_cli.shell.prompts import Given

if TYPE_CHECKING:
    from gpt2ln_cli.model import Device, Dtype, Model

F = TypeVar("F", bound=Callable[..., Any])
DEBUG = "gpt2ln.debug"


def _together(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _packed(name: str, kind: Callable[..., Any], *decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Options whose values the command gets as one argument, of a kind that has a field for each."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**values: Any) -> Any:
            fields = {field: values.pop(field) for field in kind.__annotations__ if field in values}
            return function(**{name: kind(**fields)}, **values)

        return _together(*decorators)(command)  # type: ignore[return-value]

    return decorate


@dataclass(frozen=True)
class Choice:
    """Which model a call chose, and how it is to be run."""

    model: str
    revision: str | None = None
    heads: int | None = None
    prefix: str | None = None
    device: Device = "auto"
    dtype: Dtype = "auto"

    def load(self) -> Model:
        """Find it; as :func:`gpt2ln_cli.load`."""
        from gpt2ln_cli.model import load

        return load(
            self.model,
            revision=self.revision,
            heads=self.heads,
            prefix=self.prefix,
            device=self.device,
            dtype=self.dtype,
        )


def _standard_output(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    return None if value == "-" else value


def _remember_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[DEBUG] = value


def _remember_no_pager(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[NO_PAGER] = value


heads_option = click.option(
    "--heads", type=click.IntRange(min=1), metavar="N", help="Heads, for a file that does not tell."
)

prefix_option = click.option(
    "--prefix", metavar="PREFIX", help="Which body, of a file with several: what its tensors' names begin with."
)

_which = (
    click.option(
        "-m",
        "--model",
        default="demo",
        envvar="GPT2LN_MODEL",
        show_default=True,
        show_envvar=True,
        metavar="NAME",
        shell_complete=completion.models,
        help="The bundled 'demo', a folder, a file, or a Hub id such as 'gpt2'.",
    ),
    click.option("--revision", metavar="REV", help="Branch, tag or commit of a Hub id."),
    heads_option,
    prefix_option,
)
device_options = _together(
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="Where to run; auto is the first of cuda, mps and cpu that is there.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
        default="auto",
        show_default=True,
        help="What to compute in; auto is the type the weights are stored in.",
    ),
)
# Of a model whose header and parameters are read, and of one that is run.
stored_model_options = _packed("chosen", Choice, *_which)
model_options = _packed("chosen", Choice, *_which, device_options)

strict_option = click.option("--strict", is_flag=True, help="Exit with code 1 where anything was flagged.")

site_option = click.option(
    "--site",
    "sites",
    multiple=True,
    type=click.Choice(["ln_1", "ln_2", "ln_f"]),
    help="Only LayerNorms of this kind; may be given again.",
)


def layer_option(*, required: bool = False) -> Callable[[F], F]:
    """The ``--layer`` option."""
    return click.option(
        "-l",
        "--layer",
        "layers",
        required=required,
        metavar="LAYERS",
        shell_complete=completion.layers,
        help="Layers from 0: 5, or 0-3,11; 'final' is ln_f.",
    )


def sort_option(keys: Sequence[str]) -> Callable[[F], F]:
    """The ``--sort`` option of a command that lists sites."""
    return click.option(
        "--sort",
        type=click.Choice(keys),
        metavar="QUANTITY",
        help=f"Sites by a number, greatest first: {', '.join(keys)}.",
    )


top_option = click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the first N sites.")

prompt_options = _packed(
    "given",
    Given,
    click.argument("prompt", nargs=-1),
    click.option(
        "--prompts",
        "files",
        multiple=True,
        metavar="FILE",
        shell_complete=completion.files,
        help="Prompts from a file: text, one a line, or .jsonl with a 'text' field; '-' is standard input.",
    ),
    click.option("--whole-file", is_flag=True, help="Make one prompt of each text file."),
    click.option("--token-ids", multiple=True, metavar="IDS", help='A prompt as token ids: "464,3290".'),
    click.option("--bos", is_flag=True, help="Begin every sequence with <|endoftext|>."),
    click.option(
        "--overflow",
        type=click.Choice(["error", "truncate", "window"]),
        default="error",
        show_default=True,
        help="What becomes of a prompt longer than the context.",
    ),
    click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Most sequences in a forward pass."),
    click.option(
        "--batch-tokens",
        type=click.IntRange(min=1),
        metavar="N",
        help="Most tokens in a forward pass: 1,024 on a CPU unless told, on a GPU what its memory takes.",
    ),
)

debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_remember_debug,
    help="Show the traceback of an error.",
)
no_pager_option = click.option(
    "--no-pager",
    is_flag=True,
    expose_value=False,
    callback=_remember_no_pager,
    help="Don't show through a pager what is longer than the terminal.",
)
output_option = click.option(
    "-o",
    "--output",
    metavar="FILE",
    callback=_standard_output,
    shell_complete=completion.files,
    help="Write to a file, whole or not at all; '-' is standard output.",
)


def record_options(default: str, *, file: bool = True) -> Callable[[F], F]:
    """The options that say how a record is written and where to; the command gets them as ``out``.

    Args:
        default: the format unless told.
        file: whether ``--output`` names the file; else the command has another use for it.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(
            *,
            output_format: str,
            as_json: bool,
            table: str | None,
            everything: bool,
            csv_safe: bool,
            output: str | None = None,
            **others: Any,
        ) -> Any:
            context = click.get_current_context()
            told = context.get_parameter_source("output_format") is click.core.ParameterSource.COMMANDLINE
            if as_json and told and output_format != "json":
                raise UsageError(f"--json is --format json; leave it out, or --format {output_format}.")
            out = Output("json" if as_json else output_format, table, output, csv_safe, everything)
            # Before the work, which may take long.
            out.check(context.command.name or "")
            return function(out=out, **others)

        return _together(
            click.option(
                "-f",
                "--format",
                "output_format",
                type=click.Choice(list(FORMATS)),
                default=default,
                show_default=True,
                help="How to write the record.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Short for --format json."),
            click.option(
                "--table",
                metavar="NAME",
                shell_complete=completion.tables,
                help="Which of the record's tables to write; an unknown one lists them.",
            ),
            click.option(
                "--all", "everything", is_flag=True, help="Show every column and table, also those meant for data."
            ),
            click.option(
                "--csv-safe", is_flag=True, help="Put ' before texts of a csv that a spreadsheet would compute."
            ),
            *([output_option] if file else []),
            no_pager_option,
            debug_option,
        )(command)  # type: ignore[return-value]

    return decorate


output_options = record_options("table")
page_options = record_options("html")
