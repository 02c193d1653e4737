"""From prompts to a record: the run behind ``inspect`` and ``stats``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import structs
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, one_of, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.inspect.record import SORT_KEYS, Inspection, SiteSummary, Summary
from gpt2ln_cli.commands.inspect.rows import RunRows
from gpt2ln_cli.commands.inspect.vectors import VectorRows
from gpt2ln_cli.commands.params.describe import describe, learned_number
from gpt2ln_cli.commands.params.record import SiteParameters
from gpt2ln_cli.measure.counts import Counting
from gpt2ln_cli.measure.flags import Tallies, parameter_flags, run_flags
from gpt2ln_cli.measure.rows import Columns
from gpt2ln_cli.measure.stream import Fold, Integers, stream
from gpt2ln_cli.measure.summary import Part, Summaries
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Layers, Prompts, Running, Subject, prepare
from gpt2ln_cli.quantities import POSITION, QUANTITIES, SUMMARIZED
from gpt2ln_cli.records import Claim, Counts, Spread, strictly
from gpt2ln_cli.sites import Site, ranked, select_sites
from gpt2ln_cli.text.contexts import token_texts
from gpt2ln_cli.text.prompts import sample_prompt


@dataclass(frozen=True)
class Run:
    """A finished run: what went in, and what its blocks add up to."""

    subject: Subject
    counting: Counting
    summaries: Summaries
    tallies: Tallies
    columns: Columns | None
    """Only where every token's numbers were asked for."""

    def record(
        self,
        command: Literal["inspect", "stats"] = "inspect",
        *,
        position: int | None = None,
        sort: str | None = None,
        top: int | None = None,
        rows: bool = True,
        vectors: bool = False,
    ) -> Inspection:
        """The record of the run.

        Args:
            command: whose it is.
            position: which of each sequence's tokens the rows are of; None is all.
            sort: what its sites are sorted by (``stats``: the rows of each); None keeps the order of the run.
            top: how many sites (``stats``: rows of each) to keep; None keeps all.
            rows: whether it has rows, where every token's numbers are there.
            vectors: whether the vectors of the rows' tokens are read, in another run of their batches.
        """
        configured = self.subject.model.checkpoint.config.layer_norm_epsilon
        learned = self.subject.model.layer_norms()
        counts = self.counting.counts()
        sites = [
            self._site(number, site, describe(site, learned[site.name]))
            for number, site in enumerate(self.counting.sites)
        ]
        of_rows: dict[str, Any] = {"position": position, "sort": sort or POSITION, "top": top}
        if command == "inspect":
            numbers = {site.name: number for number, site in enumerate(sites)}
            if sort is not None:
                sites = [structs.replace(site, sorted_by=self._value(numbers[site.name], site, sort)) for site in sites]
            sites = ranked(sites, lambda site: site.sorted_by, top) if sort is not None else sites[:top]
            of_rows = {"sites": [numbers[site.name] for site in sites]}
        listed = self._rows(self.columns, **of_rows) if rows and self.columns is not None else None
        return strictly(
            Inspection(
                command=command,
                model=self.subject.model.info,
                bos=self.subject.bos,
                prompts=self.subject.prompts,
                counts=counts,
                sites=sites,
                sort=sort,
                rows=listed,
                vectors=self.vectors([*map(listed.tokens, range(len(sites)))]) if vectors and listed else None,
                claims=[one_for_each_token(counts)],
                warnings=[*parameter_flags(learned), *run_flags(self.tallies.by_site, configured)],
            )
        )

    def vectors(self, chosen: Sequence[Integers]) -> VectorRows:
        """The vectors of some tokens of each site, by their numbers in the order of the run, which has all columns."""
        assert self.columns is not None
        return VectorRows(self.subject, self.columns, chosen)

    def _rows(self, columns: Columns, **chosen: Any) -> RunRows:
        ids = [token for context in self.subject.contexts for token in context.token_ids]
        return RunRows(columns, ids, token_texts(ids, self.subject.model.tokenizer), **chosen)

    def _value(self, number: int, site: SiteSummary, sort: str) -> float | None:
        """What the numbered site is sorted by."""
        if sort not in QUANTITIES:
            return learned_number(site, sort)
        if sort in SUMMARIZED:
            part = site.rest or site.first
            found: Spread | None = None if part is None else getattr(part, sort)
            return None if found is None else found.mean
        assert self.columns is not None
        values, later = self.columns.column(number, sort), self.columns.position > 0
        return float(np.mean(values[later] if later.any() else values))

    def _site(self, number: int, site: Site, learned: SiteParameters) -> SiteSummary:
        def summary(part: Part) -> Summary | None:
            found = self.summaries.of(number, part)
            return None if found is None else Summary(tokens=found[0], **found[1])

        return SiteSummary(
            name=site.name,
            layer=site.layer,
            kind=site.kind,
            statistics=int(self.counting.statistics[number]),
            first=summary("first"),
            rest=summary("rest"),
            gain=learned.gain,
            bias=learned.bias,
        )


def one_for_each_token(counts: Counts) -> Claim:
    """Whether the kernel computed one statistic for each token at each site, and no more: a matter of counting."""
    return Claim(
        id="inspect.one_for_each_token",
        verdict="yes" if counts.formula_agrees else "no",
        statistic=float(counts.total),
        threshold=float(counts.formula),
        figures={"sites": counts.sites, "tokens": counts.tokens, "total": counts.total, "formula": counts.formula},
    )


@checked
def inspect(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    per_token: bool = False,
    sort: str | None = None,
    top: int | None = None,
    **running: Unpack[Running],
) -> Inspection:
    """Run prompts and summarize what every LayerNorm computed; ``gpt2ln inspect``.

    Args:
        prompts: texts, or token ids; a single string is one prompt, None is the bundled sample.
        model: a bundled name, a folder, a file, a Hub id, or what :func:`gpt2ln_cli.load` returned.
        layers: a layer from 0, ``"final"`` for ln_f, several of them, or a text such as ``"0-3,11"``; None for all.
        sites: of ``ln_1``, ``ln_2`` and ``ln_f``; None for all.
        per_token: also one row for each site, sequence and token.
        sort: what to order the sites by, greatest first: the mean of a quantity over later tokens (over position 0
            where there are none), or a number of the gain or bias, such as ``gain_std``; None keeps the forward order.
        top: how many sites to keep, with their rows; None keeps all. The counts are of all.
        **running: see :class:`gpt2ln_cli.model.subject.Running`.

    Raises:
        UsageError: an argument has no meaning, or there is no such layer or site.
        CheckpointError: the checkpoint can't be found, read or trusted.
        PromptError: a prompt can't be used.
    """
    if sort is not None:
        one_of("sort", sort, SORT_KEYS)
    # Only by every token's numbers.
    unsummarized = sort in QUANTITIES and sort not in SUMMARIZED
    done = run(
        prompts, model=as_model(model), layers=layers, kinds=sites, per_token=per_token or unsummarized, **running
    )
    return done.record(sort=sort, top=top, rows=per_token)


def run(
    prompts: Prompts | None,
    *,
    model: Model,
    layers: Layers | None,
    kinds: Collection[str] | None,
    per_token: bool,
    ready: Callable[[Subject, Sequence[Site]], None] = lambda _, __: None,
    **running: Unpack[Running],
) -> Run:
    """Tokenize the prompts, read the weights and measure; what is wrong with the call is found before weights are read.

    ``ready`` sees what will be run, and may refuse it.

    Raises:
        UsageError: no such layer, site or device.
        CheckpointError: the weights or the tokenizer can't be used.
        PromptError: a prompt can't be used.
    """
    chosen = select_sites(model.checkpoint.config.n_layer, layer_list(layers), kinds)
    subject = prepare(prompt_list(sample_prompt() if prompts is None else prompts), model, **running)
    ready(subject, chosen)
    counting, summaries, tallies = Counting(chosen), Summaries(chosen), Tallies(chosen)
    columns = Columns(chosen) if per_token else None
    folds: list[Fold] = [counting, summaries, tallies, *([columns] if columns is not None else [])]
    steps = subject.steps()
    for block in stream(subject.model.lazy_body, subject.in_batches(), chosen, shape=per_token):
        for fold in folds:
            fold.add(block)
        steps.add(len(block.position))
    return Run(subject, counting, summaries, tallies, columns)
