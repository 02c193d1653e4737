"""What ``report`` returns."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.commands.params.record import Verdict
from gpt2ln_cli.commands.verify.record import Verification
from gpt2ln_cli.records import Claim, Record


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """What computed the numbers."""

    gpt2ln: str
    python: str
    torch: str
    transformers: str


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that give the same numbers again."""

    command: Annotated[
        list[str],
        Meta(
            description=(
                "The words of the command line, ``gpt2ln`` first. A prompt that can't be shown as it is comes as "
                "token ids."
            )
        ),
    ]
    python: Annotated[str, Meta(description="The same as a call of the library.")]
    complete: Annotated[
        bool,
        Meta(
            description=(
                "Whether the prompts are in it: false where they are too long for a command line, and a file's name "
                "stands for them."
            )
        ),
    ]
    versions: Versions


class Report(Record, frozen=True, kw_only=True):
    """What ``report`` returns."""

    command: Literal["report"] = "report"
    inspection: Annotated[Inspection, Meta(description="With its rows.")]
    verdict: Annotated[Verdict, Meta(description="Whether the inspected sites use a learned gain and bias.")]
    claims: Annotated[
        list[Claim], Meta(description="On gain and bias; the inspection and the verification hold their own.")
    ]
    verification: Annotated[
        Verification,
        Meta(
            description=(
                "Of the first tokens; its own ``prompts`` are those that were tried, and ``dropped`` counts what was "
                "not."
            )
        ),
    ]
    reproduction: Reproduction
    nonfinite: int = 0
