"""Claims in words: what says yes, no or can't tell is worded here, of a record's claims and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Any

from gpt2ln_cli.output.blocks import Column, Fact, Facts, Look, Table, Tone, table_of
from gpt2ln_cli.output.text import MISSING, number, share
from gpt2ln_cli.records import Claim

if TYPE_CHECKING:
    from gpt2ln_cli.records import Verdict

# Of the table.
CLAIMS = "claims"
MARKS: Mapping[Verdict, tuple[str, Tone]] = {
    "yes": ("yes", "good"),
    "no": ("NO", "bad"),
    "can't tell": ("can't tell", "unsure"),
}


@dataclass(frozen=True)
class Says:
    """How a claim reads, for each verdict.

    The sentences are templates over ``statistic``, ``threshold``, ``level`` and the claim's figures: ``{threshold}``
    has four significant digits, and a format of Python's, as in ``{sites:,}`` and ``{statistic:.1%}``, is obeyed;
    ``{statistic:share}`` is a percentage that is rounded down, ``{tokens:plural}`` an s where there is not one.
    """

    name: str
    """What is claimed, in two or three words."""
    yes: str
    no: str
    unsure: str

    def of(self, claim: Claim) -> str:
        """The sentence for the claim's verdict."""
        template = {"yes": self.yes, "no": self.no, "can't tell": self.unsure}[claim.verdict]
        known = {"statistic": claim.statistic, "threshold": claim.threshold, "level": claim.level, **claim.figures}
        return _WORDS.vformat(template, (), known)


class _Words(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:
            return MISSING
        if isinstance(value, float) and not format_spec:
            return number(value)
        if format_spec == "share":
            return share(value)
        if format_spec == "plural":
            return "" if value == 1 else "s"
        return str(super().format_field(value, format_spec))


_WORDS = _Words()


def claims(found: Iterable[Claim], says: Mapping[str, Says]) -> Facts:
    """What was claimed, its verdict, and the sentence, below one another."""
    return Facts([Fact(says[one.id].name, says[one.id].of(one), *MARKS[one.verdict]) for one in found])


def claims_table(found: Iterable[Claim], says: Mapping[str, Says]) -> Table:
    """The claims with their sentences, for data."""
    looks = {name: Look(name, key=name == "id") for name in ("id", "verdict", "statistic", "threshold", "level")}
    sentence = Column("sentence", str, "The claim in words.")
    return table_of(CLAIMS, Claim, list(found), looks, also=[(sentence, lambda one: says[one.id].of(one))])
