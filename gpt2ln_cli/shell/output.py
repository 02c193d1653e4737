"""How a call wants its record written, and where to."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gpt2ln_cli import output
from gpt2ln_cli.errors import UsageError, did_you_mean
from gpt2ln_cli.shell import output_file
from gpt2ln_cli.shell.notes import detail

if TYPE_CHECKING:
    from gpt2ln_cli.output.blocks import View


@dataclass(frozen=True)
class Output:
    """How a record is to be written, and where to."""

    format: str
    table: str | None
    """Which table; None is the main one where a format writes but one, and else all."""
    file: str | None
    """None is standard output."""
    csv_safe: bool
    """Whether a spreadsheet must find no formula in the texts of a csv."""
    everything: bool
    """Whether a format that a person reads shows what is for data alone, too."""

    def check(self, command: str) -> None:
        """Find out before the work whether the command's record can be written like this.

        Raises:
            UsageError: it can't.
        """
        output_file.check(self.file)
        chosen = output.FORMATS[self.format]
        if chosen.needs is not None and find_spec(chosen.needs) is None:
            raise UsageError(f'--format {self.format} needs {chosen.needs}: pip install ".[{self.format}]".')
        output.check(self.format, table=self.table, everything=self.everything, csv_safe=self.csv_safe)
        if chosen.file_only:
            output_file.check_not_terminal(
                self.file, f"{self.format} is not for a terminal; use --output FILE or a pipe."
            )
        if self.table is not None:
            known = table_names(command)
            if self.table not in known:
                meant = did_you_mean(self.table, known)
                raise UsageError(
                    f"no table '{self.table}' in what {command} gives; it has {', '.join(known)}. {meant}".rstrip()
                )

    def emit(self, view: View) -> None:
        """Write the view.

        Raises:
            UsageError: the file or standard output can't be written.
        """
        where = self.file or "standard output"
        detail(f"writing {self.format} to {where}")
        output_file.deliver(
            lambda stream: output.write(
                view,
                self.format,
                stream,
                table=self.table,
                everything=self.everything,
                csv_safe=self.csv_safe,
            ),
            output=self.file,
            utf8=self.format != "table",
        )
        detail(f"wrote {where}")


def table_names(command: str) -> tuple[str, ...]:
    """The tables that a command's view may have."""
    from gpt2ln_cli.output.blocks import RECORD

    return (*import_module(f"gpt2ln_cli.commands.{command}.view").TABLES, RECORD)
