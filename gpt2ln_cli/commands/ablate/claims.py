"""What the losses tell: whether the real LayerNorm does best, and what of it this model needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.ablate.replacements import OUT_OF_SIGMA, SILENT, WITHOUT_EFFECT
from gpt2ln_cli.measure.chance import LEVEL, mean_bound
from gpt2ln_cli.records import Claim

if TYPE_CHECKING:
    from gpt2ln_cli.commands.ablate.record import Ablated
    from gpt2ln_cli.measure.ledger import Floats
    from gpt2ln_cli.records import Verdict

# What of a LayerNorm is needed, and the replacement that is without it.
NEEDED = {
    "scale": "identity",
    "own_scale": "fixed sigma",
    "centering": "RMSNorm",
    "gain": "no gain",
    "bias": "no bias",
}


# What features act through, and the replacement that is without it.
FEATURES = {"feature_matters": WITHOUT_EFFECT, "feature_through_sigma": OUT_OF_SIGMA, "feature_through_y": SILENT}


@dataclass(frozen=True)
class Trial:
    """One replacement, and the loss of every token less that of the real model."""

    one: Ablated
    differences: Floats
    resolution: float
    """Differences of loss up to this are rounding's."""

    def threshold(self, level: float) -> float:
        """What chance or rounding may make of the mean difference; NaN where the tokens are too few to tell."""
        return max(mean_bound(self.differences, level), self.resolution)

    @property
    def same(self) -> bool:
        """Whether nothing is beyond rounding: neither the mean difference nor how the tokens' differences spread."""
        return all(
            value is not None and abs(value) <= self.resolution
            for value in (self.one.loss_difference, self.one.standard_error)
        )

    def higher(self, level: float) -> Verdict:
        """Whether the loss is higher than the real model's."""
        difference, threshold = self.one.loss_difference, self.threshold(level)
        if self.same:
            return "no"
        if difference is None or not math.isfinite(difference):
            return "yes" if self.one.overflowed else "can't tell"
        return "yes" if difference > threshold else "no" if difference < -threshold else "can't tell"


def claims(real: Ablated, trials: Sequence[Trial]) -> list[Claim]:
    """Every claim on the replaced LayerNorms.

    Args:
        real: the model as it is.
        trials: its replacements.
    """
    by_name = {trial.one.name: trial for trial in trials}
    known = real.loss is not None and math.isfinite(real.loss)
    if SILENT in by_name:
        return [_needed(claim, by_name[name], real, known) for claim, name in FEATURES.items()]
    fair = [trial for trial in trials if not trial.one.looks_ahead and not trial.same]
    return [
        _lowest(fair, real, known),
        *(_needed(f"{part}_needed", by_name[name], real, known) for part, name in NEEDED.items()),
    ]


def _lowest(fair: Sequence[Trial], real: Ablated, known: bool) -> Claim:
    """Whether the real LayerNorm's loss is the lowest of those that look at no future token.

    The level is shared out among the replacements, of which any could do better by chance.
    """
    level = LEVEL / max(1, len(fair))
    finite = [trial for trial in fair if trial.one.loss_difference is not None]
    finite = [trial for trial in finite if math.isfinite(trial.one.loss_difference or 0.0)]
    verdicts = {trial.higher(level) for trial in fair}
    nearest = min(finite, key=lambda trial: (trial.one.loss_difference or 0.0) / trial.threshold(level), default=None)
    verdict: Verdict = "can't tell"
    if known and "no" in verdicts:
        verdict = "no"
    elif known and verdicts == {"yes"}:
        verdict = "yes"
    return Claim(
        id="ablate.real_has_lowest_loss",
        verdict=verdict,
        statistic=nearest.one.loss_difference if nearest else None,
        threshold=_finite(nearest.threshold(level)) if nearest else None,
        level=LEVEL,
        figures={
            "real_loss": real.loss,
            "nearest": nearest.one.name if nearest else None,
            "rivals": len(fair),
            "lower": ", ".join(trial.one.name for trial in fair if trial.higher(level) == "no"),
        },
    )


def _needed(claim: str, trial: Trial, real: Ablated, known: bool) -> Claim:
    return Claim(
        id=f"ablate.{claim}",
        verdict=trial.higher(LEVEL) if known else "can't tell",
        statistic=trial.one.loss_difference,
        threshold=_finite(trial.threshold(LEVEL)),
        level=LEVEL,
        figures={"without": trial.one.name, "loss": trial.one.loss, "real_loss": real.loss},
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
