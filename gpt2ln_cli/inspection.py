"""From prompts to a record: the run behind ``inspect`` and ``stats``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2ln_cli.checkpoint import Checkpoint, LayerNormParameters
from gpt2ln_cli.flags import parameter_flags, run_flags
from gpt2ln_cli.model import Device, Dtype, LoadedModel, build_body, layer_norm
from gpt2ln_cli.parameters import describe
from gpt2ln_cli.prompts import Context, Overflow, make_contexts, plan_batches, prompt_infos, token_texts
from gpt2ln_cli.quantities import POSITION
from gpt2ln_cli.records import Flag, Inspection, Row, SiteSummary
from gpt2ln_cli.sites import Site, all_sites, select_sites
from gpt2ln_cli.statistics import Measured, Progress, measure, summarize


@dataclass(frozen=True)
class Run:
    """A finished run: what went in and what was measured."""

    loaded: LoadedModel
    contexts: Sequence[Context]
    bos: bool
    measured: Measured

    def record(self, command: Literal["inspect", "stats"], rows: list[Row] | None) -> Inspection:
        """The record of the run, with the given rows."""
        return Inspection(
            command=command,
            model=self.loaded.info,
            bos=self.bos,
            prompts=prompt_infos(self.contexts, self.loaded.tokenizer),
            counts=self.measured.counts,
            sites=list(self._site_summaries()),
            rows=rows,
            warnings=self._flags(),
        )

    def rows(self, *, sort: str = POSITION, top: int | None = None) -> list[Row]:
        """One row for each site, sequence and token, by site.

        Args:
            sort: quantity to order each site's rows by, greatest first (NaN last); ``position`` keeps the text's order.
            top: rows to keep of each site; None keeps all.
        """
        measured, quantities = self.measured, self.measured.quantities
        ids = np.concatenate([context.token_ids for context in self.contexts])
        texts = token_texts(ids.tolist(), self.loaded.tokenizer)
        assert quantities.max_deviation is not None
        assert quantities.excess_kurtosis is not None
        rows = []
        for number, site in enumerate(measured.sites):
            order = np.arange(len(ids))
            if sort != POSITION:
                order = np.argsort(-getattr(quantities, sort)[number], kind="stable")
            rows += [
                Row(
                    site=site.name,
                    sequence=int(measured.sequence[token]),
                    position=int(measured.position[token]),
                    token_id=int(ids[token]),
                    token=texts[token] if texts else None,
                    mean=float(quantities.mean[number, token]),
                    sigma=float(quantities.sigma[number, token]),
                    pre_norm=float(quantities.pre_norm[number, token]),
                    normalized_norm=float(quantities.normalized_norm[number, token]),
                    post_norm=float(quantities.post_norm[number, token]),
                    max_deviation=float(quantities.max_deviation[number, token]),
                    excess_kurtosis=float(quantities.excess_kurtosis[number, token]),
                    mean_share=float(quantities.mean_share[number, token]),
                )
                for token in order[:top]
            ]
        return rows

    def _site_summaries(self) -> Iterator[SiteSummary]:
        first = self.measured.position == 0
        for number, site in enumerate(self.measured.sites):
            learned = describe(site, self._parameters(site))
            yield SiteSummary(
                name=site.name,
                layer=site.layer,
                kind=site.kind,
                statistics=self.measured.statistics[number],
                first=summarize(self.measured.quantities, number, first),
                rest=summarize(self.measured.quantities, number, ~first),
                gain=learned.gain,
                bias=learned.bias,
            )

    def _parameters(self, site: Site) -> LayerNormParameters:
        module = layer_norm(self.loaded.body, site)
        return LayerNormParameters(gain=_vector(module.weight), bias=_vector(module.bias))

    def _flags(self) -> list[Flag]:
        config = self.loaded.checkpoint.config
        learned = {site.name: self._parameters(site) for site in all_sites(config.n_layer)}
        return [*parameter_flags(learned), *run_flags(self.measured, config.layer_norm_epsilon)]


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
    progress: Progress | None,
) -> Run:
    """Tokenize the prompts, load the model and measure; what is wrong with the call is found before weights are read.

    Raises:
        UsageError: no such layer or site, or a batch size below 1.
        CheckpointError: the weights or the tokenizer can't be used.
        PromptError: a prompt can't be used.
    """
    checkpoint = model.checkpoint if isinstance(model, LoadedModel) else model
    sites = select_sites(checkpoint.config.n_layer, layers, kinds)
    tokenizer = model.tokenizer if isinstance(model, LoadedModel) else checkpoint.tokenizer()
    contexts = make_contexts(prompts, config=checkpoint.config, tokenizer=tokenizer, bos=bos, overflow=overflow)
    batches = plan_batches([len(context.token_ids) for context in contexts], batch_size=batch_size)
    loaded = model if isinstance(model, LoadedModel) else None
    if loaded is None:
        loaded = LoadedModel(checkpoint, build_body(checkpoint, device=device, dtype=dtype), tokenizer)
    return Run(loaded, contexts, bos, measure(loaded.body, contexts, batches, sites, shape=shape, progress=progress))


def _vector(parameter: torch.Tensor | None) -> NDArray[np.float64] | None:
    return None if parameter is None else parameter.detach().cpu().double().numpy()
