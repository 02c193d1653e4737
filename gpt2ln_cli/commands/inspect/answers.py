"""What the record of ``inspect`` and ``stats`` says, in sentences made of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gpt2ln_cli.commands.params.view import is_learned, switched_off
from gpt2ln_cli.output.text import number, quoted
from gpt2ln_cli.records import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpt2ln_cli.commands.inspect.record import Inspection
    from gpt2ln_cli.records import PromptInfo


def answers(record: Inspection) -> Iterator[str]:
    """What the numbers say, in a sentence or two each."""
    if len(record.sites) < record.counts.sites:
        return  # and the table says which of them come first
    yield from _most_spiky(record) if record.command == "stats" else _largest(record)
    yield from _first_and_later(record)
    if record.command == "inspect" and any(map(is_learned, record.sites)):
        yield from switched_off(record.sites, features=record.model.n_embd)


def _largest(record: Inspection) -> Iterator[str]:
    """Where sigma is largest and smallest."""
    later = any(site.rest is not None for site in record.sites)
    found = [
        (part.sigma.mean, site.name)
        for site in record.sites
        if (part := site.rest if later else site.first) is not None and part.sigma.mean is not None
    ]
    if not found:
        return
    (least, there), (most, here) = min(found), max(found)
    whose = "of later tokens" if later else "at position 0"
    several = record.counts.tokens - (record.counts.sequences if later else 0) > 1
    mean = " on average" if several else ""
    if found[1:]:
        smallest = f"smallest at {there} ({number(least)})"
        yield f"sigma {whose} is largest at {here} ({number(most)}{mean}) and {smallest}."
    else:
        yield f"sigma {whose} is {number(most)}{mean} at {here}."


def _first_and_later(record: Inspection) -> Iterator[str]:
    """How position 0 differs from the rest."""
    found = [
        (site.first.sigma.mean / site.rest.sigma.mean, site.name)
        for site in record.sites
        if site.first and site.rest and site.first.sigma.mean is not None and site.rest.sigma.mean
    ]
    if not found:
        return
    (least, there), (most, here) = min(found), max(found)
    if found[1:]:
        yield (
            f"Position 0 has between {number(least)} ({there}) and {number(most)} times ({here}) the sigma that later "
            "tokens have on average."
        )
    else:
        yield f"Position 0 has {number(most)} times the sigma that later tokens have on average at {here}."


def _most_spiky(record: Inspection) -> Iterator[str]:
    """Which tokens are the most spiky by size and by shape; the record must have rows."""
    for name, words in (("sigma", "sigma"), ("excess_kurtosis", "excess kurtosis")):
        column = columns(record)
        best: tuple[float, int, int] | None = None
        for number_ in range(len(record.sites)):
            values = np.where(np.isfinite(values := column(number_, name)), values, -np.inf)
            token = int(np.argmax(values))
            if np.isfinite(values[token]) and (best is None or values[token] > best[0]):
                best = float(values[token]), number_, token
        if best is not None:
            value, number_, token = best
            where = f"{_where(record, token)}, entering {record.sites[number_].name}"
            yield f"The greatest {words} is {number(value)}: {where}."


def _where(record: Inspection, token: int) -> str:
    """The token of that number in the run, and where it stands."""
    several = len(record.prompts) > 1
    for prompt in record.prompts:
        if token < prompt.length:
            of = f" of sequence {prompt.index}" if several else ""
            return f"{texts(prompt)[token]} at position {token}{of}"
        token -= prompt.length
    raise IndexError(token)


def texts(prompt: PromptInfo) -> list[str]:
    """The sequence's tokens as a person reads them."""
    known: list[str] | list[None] = prompt.tokens if prompt.tokens is not None else [None] * prompt.length
    return list(map(token_text, prompt.token_ids, known))


def token_text(token_id: int, text: str | None) -> str:
    """A token as a person reads it: its text or, where there is no tokenizer, its id."""
    return f"id {token_id}" if text is None else quoted(text)


def columns(record: Inspection) -> Callable[[int, str], NDArray[np.float64]]:
    """From a site's number and a quantity to its numbers in the order of the run; of a list of rows, NaN for null."""
    rows = record.rows
    if isinstance(rows, Rows):
        return rows.column
    lines = {site.name: line for line, site in enumerate(record.sites)}
    starts = np.cumsum([0, *(prompt.length for prompt in record.prompts)])

    @cache
    def listed(quantity: str) -> NDArray[np.float64]:
        values = np.full((len(lines), starts[-1]), np.nan)
        for row in rows or ():
            value = getattr(row, quantity)
            values[lines[row.site], starts[row.sequence] + row.position] = np.nan if value is None else value
        return values

    return lambda site, quantity: listed(quantity)[site]
