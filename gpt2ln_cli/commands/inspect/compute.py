"""From prompts to a record: the run behind ``inspect`` and ``stats``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from typing_extensions import Unpack

from gpt2ln_cli.arguments import checked, layer_list, prompt_list
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.inspect.record import Inspection, SiteSummary, Summary
from gpt2ln_cli.commands.inspect.rows import RunRows
from gpt2ln_cli.commands.inspect.vectors import VectorRows
from gpt2ln_cli.commands.params.describe import describe
from gpt2ln_cli.commands.params.record import SiteParameters
from gpt2ln_cli.measure.counts import Counting
from gpt2ln_cli.measure.flags import Tallies, parameter_flags, run_flags
from gpt2ln_cli.measure.rows import Columns
from gpt2ln_cli.measure.stream import Fold, Integers, stream
from gpt2ln_cli.measure.summary import Part, Summaries
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.subject import Layers, Prompts, Running, Subject, prepare
from gpt2ln_cli.quantities import POSITION
from gpt2ln_cli.records import strictly
from gpt2ln_cli.sites import Site, select_sites
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
        command: Literal["inspect", "stats"],
        *,
        position: int | None = None,
        sort: str = POSITION,
        top: int | None = None,
        vectors: bool = False,
    ) -> Inspection:
        """The record of the run, with rows where every token's numbers are there.

        Args:
            command: whose record.
            position: as for :class:`RunRows`, as are ``sort`` and ``top``.
            sort: the order of the rows.
            top: how many of each site.
            vectors: whether the vectors of the rows' tokens are read, in another run of their batches.
        """
        rows = None if self.columns is None else self._rows(self.columns, position, sort, top)
        configured = self.subject.model.checkpoint.config.layer_norm_epsilon
        learned = self.subject.model.layer_norms()
        return strictly(
            Inspection(
                command=command,
                model=self.subject.model.info,
                bos=self.subject.bos,
                prompts=self.subject.prompts,
                counts=self.counting.counts(),
                sites=[
                    self._site(number, site, describe(site, learned[site.name]))
                    for number, site in enumerate(self.counting.sites)
                ],
                rows=rows,
                vectors=self.vectors([*map(rows.tokens, range(len(self.counting.sites)))])
                if vectors and rows
                else None,
                warnings=[*parameter_flags(learned), *run_flags(self.tallies.by_site, configured)],
            )
        )

    def vectors(self, chosen: Sequence[Integers]) -> VectorRows:
        """The vectors of some tokens of each site, by their numbers in the order of the run, which has all columns."""
        assert self.columns is not None
        return VectorRows(self.subject, self.columns, chosen)

    def _rows(self, columns: Columns, position: int | None, sort: str, top: int | None) -> RunRows:
        ids = [token for context in self.subject.contexts for token in context.token_ids]
        return RunRows(
            columns, ids, token_texts(ids, self.subject.model.tokenizer), position=position, sort=sort, top=top
        )

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
    return run(prompts, model=as_model(model), layers=layers, kinds=sites, per_token=per_token, **running).record(
        "inspect"
    )


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
    for block in stream(subject.model.body, subject.in_batches(), chosen, shape=per_token):
        for fold in folds:
            fold.add(block)
        steps.add(len(block.position))
    return Run(subject, counting, summaries, tallies, columns)
