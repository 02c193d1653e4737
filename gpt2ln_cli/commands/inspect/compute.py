"""From prompts to a record: the run behind ``inspect`` and ``stats``."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL, LayerNormParameters
from gpt2ln_cli.commands.inspect.record import Inspection, Row, SiteSummary
from gpt2ln_cli.commands.params.describe import describe
from gpt2ln_cli.measure.flags import parameter_flags, run_flags, tallies
from gpt2ln_cli.measure.statistics import Measured, measure, summarize
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Layers, Prompts, Running, Subject, prepare
from gpt2ln_cli.quantities import POSITION, QUANTITIES
from gpt2ln_cli.records import Rows, strictly
from gpt2ln_cli.sites import select_sites
from gpt2ln_cli.text.prompts import sample_prompt, token_texts


@dataclass(frozen=True)
class Run:
    """A finished run: what went in and what was measured."""

    subject: Subject
    measured: Measured

    def record(self, command: Literal["inspect", "stats"], rows: Rows[Row] | None) -> Inspection:
        """The record of the run, with the given rows."""
        configured = self.subject.model.checkpoint.config.layer_norm_epsilon
        learned = self.subject.model.layer_norms()
        return Inspection(
            command=command,
            model=self.subject.model.info,
            bos=self.subject.bos,
            prompts=self.subject.prompts,
            counts=self.measured.counts,
            sites=list(self._site_summaries(learned)),
            rows=rows,
            warnings=[*parameter_flags(learned), *run_flags(tallies(self.measured), configured)],
        )

    def rows(self, *, sort: str = POSITION, top: int | None = None) -> Rows[Row]:
        """One row for each site, sequence and token, by site.

        Args:
            sort: quantity to order each site's rows by, greatest first (NaN last); ``position`` keeps the text's order.
            top: rows to keep of each site; None keeps all.
        """
        ids = [token for context in self.subject.contexts for token in context.token_ids]
        return MeasuredRows(self.measured, ids, token_texts(ids, self.subject.model.tokenizer), sort=sort, top=top)

    def _site_summaries(self, parameters: Mapping[str, LayerNormParameters]) -> Iterator[SiteSummary]:
        first = self.measured.position == 0
        for number, site in enumerate(self.measured.sites):
            quantities = self.measured.at(number)
            learned = describe(site, parameters[site.name])
            yield SiteSummary(
                name=site.name,
                layer=site.layer,
                kind=site.kind,
                statistics=self.measured.statistics[number],
                first=summarize(quantities, first),
                rest=summarize(quantities, ~first),
                gain=learned.gain,
                bias=learned.bias,
            )


class MeasuredRows(Rows[Row]):
    """The rows of a run, made from its ledger one site at a time."""

    def __init__(
        self, measured: Measured, token_ids: Sequence[int], tokens: Sequence[str] | None, *, sort: str, top: int | None
    ) -> None:
        self._measured, self._token_ids, self._tokens, self._sort = measured, token_ids, tokens, sort
        self._each = len(token_ids) if top is None else min(top, len(token_ids))
        # The site that was read last by index: its neighbours are likely to be asked for next.
        self._last = (-1, np.empty(0, dtype=np.int64), np.empty((0, 0)))
        self.nonfinite = sum(int(np.count_nonzero(~np.isfinite(self._site(n)[1]))) for n in range(len(measured.sites)))

    def __len__(self) -> int:
        return len(self._measured.sites) * self._each

    def __iter__(self) -> Iterator[Row]:
        for number in range(len(self._measured.sites)):
            order, values = self._site(number)
            for place in range(self._each):
                yield self._row(number, order[place], values[:, place])

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        number, place = divmod(range(len(self))[index], self._each)
        if number != self._last[0]:
            self._last = (number, *self._site(number))
        _, order, values = self._last
        return self._row(number, order[place], values[:, place])

    def _site(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which tokens the site's rows are of, and their ``QUANTITIES`` (quantities, rows)."""
        at = self._measured.at(number)
        order = np.arange(len(self._token_ids))
        if self._sort != POSITION:
            order = np.argsort(-getattr(at, self._sort), kind="stable")
        order = order[: self._each]
        return order, np.stack([getattr(at, name)[order] for name in QUANTITIES])

    def _row(self, number: int, token: int, values: NDArray[np.float64]) -> Row:
        return Row(
            site=self._measured.sites[number].name,
            sequence=int(self._measured.sequence[token]),
            position=int(self._measured.position[token]),
            token_id=self._token_ids[token],
            token=self._tokens[token] if self._tokens else None,
            **{
                name: value if math.isfinite(value) else None
                for name, value in zip(QUANTITIES, values.tolist(), strict=True)
            },
        )


@checked
def inspect(
    prompts: Prompts | None = None,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    per_token: bool = False,
    **running: Unpack[Running],
) -> Inspection:
    """Run prompts and summarize what every LayerNorm computed; ``gpt2ln inspect``.

    Args:
        prompts: texts, or token ids; a single string is one prompt, None is the bundled sample.
        model: a bundled name, a folder, a file, a Hub id, or what :func:`gpt2ln_cli.load` returned.
        layers: a layer from 0, ``"final"`` for ln_f, several of them, or a text such as ``"0-3,11"``; None for all.
        sites: of ``ln_1``, ``ln_2`` and ``ln_f``; None for all.
        per_token: also one row for each site, sequence and token.
        **running: see :class:`gpt2ln_cli.model.subject.Running`.

    Raises:
        UsageError: an argument has no meaning, or there is no such layer or site.
        CheckpointError: the checkpoint can't be found, read or trusted.
        PromptError: a prompt can't be used.
    """
    done = run(prompts, model=as_model(model), layers=layers, kinds=sites, shape=per_token, **running)
    return strictly(done.record("inspect", done.rows() if per_token else None))


def run(
    prompts: Prompts | None,
    *,
    model: Model,
    layers: Layers | None,
    kinds: Collection[str] | None,
    shape: bool,
    **running: Unpack[Running],
) -> Run:
    """Tokenize the prompts, read the weights and measure; what is wrong with the call is found before weights are read.

    Raises:
        UsageError: no such layer, site or device.
        CheckpointError: the weights or the tokenizer can't be used.
        PromptError: a prompt can't be used.
    """
    chosen = select_sites(model.checkpoint.config.n_layer, layer_list(layers), kinds)
    subject = prepare(prompt_list(sample_prompt() if prompts is None else prompts), model, **running)
    measured = measure(
        subject.model.body, subject.contexts, subject.batches, chosen, shape=shape, progress=subject.progress
    )
    return Run(subject, measured)
