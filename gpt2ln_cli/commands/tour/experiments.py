"""The experiments that answers are made of, each run when the first answer asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from gpt2ln_cli.commands.ablate.compute import ablate
from gpt2ln_cli.commands.ablate.record import Ablation
from gpt2ln_cli.commands.compare.compute import compare
from gpt2ln_cli.commands.compare.pairs import BLANK
from gpt2ln_cli.commands.compare.record import Comparison, TokenAtSite
from gpt2ln_cli.commands.inspect.compute import inspect
from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.commands.plot.compute import steps
from gpt2ln_cli.commands.plot.record import Steps
from gpt2ln_cli.commands.tour.gradients import gradients_at_blocks
from gpt2ln_cli.commands.tour.record import Gradients
from gpt2ln_cli.commands.verify.compute import verify
from gpt2ln_cli.commands.verify.record import Verification
from gpt2ln_cli.model import Model
from gpt2ln_cli.model.subject import Progress, begin
from gpt2ln_cli.records import Flag, strict, united
from gpt2ln_cli.sites import FINAL, Site
from gpt2ln_cli.text.contexts import make_contexts
from gpt2ln_cli.text.prompts import HELD_OUT, LONG_SAMPLE, long_sample


class Experiments:
    """What one model did, as far as somebody asked.

    Args:
        model: it; with a tokenizer.
        progress: is told of each as it begins, and how far it is.
    """

    def __init__(self, model: Model, progress: Progress | None) -> None:
        self.model, self._progress = model, progress

    @cached_property
    def run(self) -> Inspection:
        """Every statistic of one long context."""
        begin(self._progress, "counting statistics")
        return inspect(long_sample(LONG_SAMPLE), model=self.model, overflow="truncate", progress=self._progress)

    @cached_property
    def trial(self) -> Verification:
        """Every axis, tried."""
        begin(self._progress, "trying every axis")
        return verify(model=self.model, progress=self._progress)

    @cached_property
    def words(self) -> Comparison:
        """Two words side by side, and a linear probe."""
        return compare(model=self.model, progress=self._progress)

    @cached_property
    def steps(self) -> Steps:
        """The same words, feature by feature, at the site where their sizes differ most."""
        setting = self.words.settings[-1]
        site = Site.named(max(zip(*(token.sites for token in setting.tokens), strict=True), key=_ratio)[0].site)
        words = [token.text for token in setting.tokens if token.text is not None]
        return steps(
            words,
            model=self.model,
            layers=FINAL if site.layer is None else site.layer,
            sites=[site.kind],
            template=setting.template or BLANK,
        )

    @cached_property
    def context(self) -> Comparison:
        """What the tokens of one context share."""
        return compare(model=self.model, context=True, progress=self._progress)

    @cached_property
    def ablation(self) -> Ablation:
        """The predictions with something else in the place of every LayerNorm."""
        begin(self._progress, "replacing LayerNorms")
        return ablate(model=self.model, progress=self._progress)

    @cached_property
    def gradients(self) -> Gradients:
        """The loss's gradients, with LayerNorm and with a fixed sigma."""
        begin(self._progress, "measuring gradients")
        config, tokenizer = self.model.checkpoint.config, self.model.tokenizer
        contexts = make_contexts(
            [long_sample(HELD_OUT)], config=config, tokenizer=tokenizer, bos=False, overflow="window"
        )
        token_ids = [token for context in contexts for token in context.token_ids]
        found: Gradients = strict(gradients_at_blocks(self.model, token_ids))[0]
        return found

    def warnings(self) -> list[Flag]:
        """What the runs flagged that were made."""
        made = (self.__dict__.get(name) for name in ("run", "trial", "words", "context", "ablation"))
        return united(*(record.warnings for record in made if record is not None))


def _ratio(tokens: Sequence[TokenAtSite]) -> float:
    sigmas = [one.pre.sigma or 0.0 for one in tokens]
    return max(sigmas) / min(sigmas) if min(sigmas) > 0 else 0.0
