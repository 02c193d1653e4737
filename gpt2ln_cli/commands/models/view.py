"""The record of ``models`` as blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2ln_cli.commands.models.record import AvailableModel
from gpt2ln_cli.output.blocks import Look, Paragraph, View, table_of
from gpt2ln_cli.output.text import number

if TYPE_CHECKING:
    from gpt2ln_cli.commands.models.record import Models

TABLES = ("models",)
SHORT_COMMIT = 12


def view(record: Models) -> View:
    """The checkpoints at hand."""
    return View(
        record,
        [
            table_of(
                "models",
                AvailableModel,
                record.models,
                {
                    "commit": Look("revision", key=True),
                    "name": Look("model", key=True),
                    "n_layer": Look("layers"),
                    "n_head": Look("heads"),
                    "n_embd": Look("width"),
                    "n_positions": Look("context"),
                    "vocab_size": Look("vocab"),
                    "megabytes": Look("MB"),
                },
                words={
                    "commit": lambda model: (model.revision or model.source)[:SHORT_COMMIT],
                    "megabytes": lambda model: number(model.size / 1e6),
                },
            ),
            Paragraph(
                f"The bundled checkpoint, and every GPT-2 with weights in the Hugging Face cache ({record.cache}). MB: "
                "1,000,000 bytes on disk. Commits are shortened; --revision takes the whole one, which --json shows."
            ),
        ],
    )
