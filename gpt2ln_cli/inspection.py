"""From prompts to a record: the run behind ``inspect`` and ``stats``."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from gpt2ln_cli.checkpoint import Checkpoint, LayerNormParameters
from gpt2ln_cli.flags import parameter_flags, run_flags, tallies
from gpt2ln_cli.model import Device, Dtype, LoadedModel
from gpt2ln_cli.parameters import describe
from gpt2ln_cli.prompts import Overflow, token_texts
from gpt2ln_cli.quantities import POSITION, QUANTITIES
from gpt2ln_cli.records import Inspection, Row, Rows, SiteSummary
from gpt2ln_cli.sites import select_sites
from gpt2ln_cli.statistics import Measured, Progress, measure, summarize
from gpt2ln_cli.subject import Subject, prepare


@dataclass(frozen=True)
class Run:
    """A finished run: what went in and what was measured."""

    subject: Subject
    bos: bool
    measured: Measured

    def record(self, command: Literal["inspect", "stats"], rows: Rows | None) -> Inspection:
        """The record of the run, with the given rows."""
        configured = self.subject.loaded.checkpoint.config.layer_norm_epsilon
        learned = self.subject.loaded.layer_norms()
        return Inspection(
            command=command,
            model=self.subject.loaded.info,
            bos=self.bos,
            prompts=self.subject.prompts,
            counts=self.measured.counts,
            sites=list(self._site_summaries(learned)),
            rows=rows,
            warnings=[*parameter_flags(learned), *run_flags(tallies(self.measured), configured)],
        )

    def rows(self, *, sort: str = POSITION, top: int | None = None) -> Rows:
        """One row for each site, sequence and token, by site.

        Args:
            sort: quantity to order each site's rows by, greatest first (NaN last); ``position`` keeps the text's order.
            top: rows to keep of each site; None keeps all.
        """
        ids = [token for context in self.subject.contexts for token in context.token_ids]
        return MeasuredRows(self.measured, ids, token_texts(ids, self.subject.loaded.tokenizer), sort=sort, top=top)

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


class MeasuredRows(Rows):
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


def run(
    prompts: Sequence[str | Sequence[int]],
    *,
    model: Checkpoint | LoadedModel,
    device: Device,
    dtype: Dtype,
    layers: Sequence[int | str] | None,
    kinds: Collection[str] | None,
    shape: bool,
    bos: bool,
    overflow: Overflow,
    batch_size: int | None,
    batch_tokens: int | None,
    progress: Progress | None,
) -> Run:
    """Tokenize the prompts, load the model and measure; what is wrong with the call is found before weights are read.

    Raises:
        UsageError: no such layer, site or device.
        CheckpointError: the weights or the tokenizer can't be used.
        PromptError: a prompt can't be used.
    """
    checkpoint = model.checkpoint if isinstance(model, LoadedModel) else model
    sites = select_sites(checkpoint.config.n_layer, layers, kinds)
    subject = prepare(
        prompts,
        model=model,
        device=device,
        dtype=dtype,
        bos=bos,
        overflow=overflow,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
    )
    measured = measure(subject.loaded.body, subject.contexts, subject.batches, sites, shape=shape, progress=progress)
    return Run(subject, bos, measured)
