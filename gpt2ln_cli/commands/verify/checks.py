"""What the axis trial tells of the model: its axis, its heads, its gain and bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.verify.record import AxisFit, Check, SiteTrial
from gpt2ln_cli.measure.axes import Axis
from gpt2ln_cli.measure.rounding import LEVEL
from gpt2ln_cli.model import layer_norm, vector
from gpt2ln_cli.records import ModelInfo
from gpt2ln_cli.sites import all_sites

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model


def check_axis(trials: Sequence[SiteTrial], model: ModelInfo) -> Check:
    """Whether every site normalizes each token over its features, and nothing else fits."""
    own = Axis.PER_TOKEN.value
    nearest = max(trials, key=lambda trial: trial.runner_up_reproduced)
    if {trial.verdict for trial in trials} == {own}:
        return Check(
            name="axis",
            passed=True,
            statement=(
                f"'{own}' reproduces {percent(min(trial.reproduced for trial in trials))} of the numbers at the worst "
                f"of all {len(trials)} sites, where {percent(LEVEL)} are needed; the next axis, "
                f"'{nearest.runner_up}', {percent(nearest.runner_up_reproduced)} at its best."
            ),
        )
    others = [trial for trial in trials if own not in trial.candidates]
    if not others:
        doubtful = [trial for trial in trials if trial.verdict is None]
        names = sorted({name for trial in doubtful for name in trial.candidates} - {own})
        together = " and ".join(f"'{name}'" for name in names)
        remedy = (
            f"at width {model.n_embd} in {model.dtype} this input can't tell them apart"
            if names == [Axis.SAMPLE_VARIANCE.value]
            else "this input can't tell them apart; give more tokens"
        )
        return Check(
            name="axis",
            passed=None,
            statement=(
                f"undecided: at {len(doubtful)} of {len(trials)} sites {together} fits as well as '{own}': {remedy}."
            ),
        )
    named = sorted({" or ".join(trial.candidates) or "no axis that was tried" for trial in others})
    lost = [trial for trial in others if not trial.candidates]
    lost_at = f" At {lost[0].name} '{lost[0].best}' comes nearest, with {percent(lost[0].reproduced)}." if lost else ""
    return Check(
        name="axis",
        passed=False,
        statement=(
            f"{len(others)} of {len(trials)} sites follow {' and '.join(named)}; the first is {others[0].name}."
            f"{lost_at}"
        ),
    )


def percent(share: float) -> str:
    """A share, rounded down, so that only what is all is called 100%."""
    return f"{math.floor(share * 1e4) / 100:g}%"


def check_heads(body: GPT2Model, axes: Sequence[AxisFit], trials: Sequence[SiteTrial]) -> Check:
    """Whether the heads play no part."""
    heads, width = body.config.n_head, body.config.n_embd
    if heads == 1:
        return Check(name="heads", passed=None, statement="undecided: with one head there is nothing to tell apart.")
    axis = next(fit for fit in axes if fit.reading == Axis.PER_HEAD.value)
    followed = [trial for trial in trials if Axis.PER_HEAD.value in trial.candidates]
    alone = [trial for trial in followed if Axis.PER_TOKEN.value not in trial.candidates]
    passed = None if followed and not alone else not alone
    verb = f"fits at {len(followed)} sites{'' if alone else ', but so does what GPT-2 does'}" if followed else "fails"
    return Check(
        name="heads",
        passed=passed,
        statement=(
            f"what enters and leaves each site is (tokens, {width}), without an axis for the {heads} heads; the "
            f"axis '{axis.reading}' {verb}, with differences of up to {axis.rms:.2g} of the output."
        ),
    )


def check_gain_and_bias(body: GPT2Model, trials: Sequence[SiteTrial]) -> Check:
    """Whether y = gain * xhat + bias, with the gain and bias that the checkpoint has."""
    has: dict[str, str] = {}
    learned = 0
    for site, trial in zip(all_sites(body.config.n_layer), trials, strict=True):
        module = layer_norm(body, site)
        gain, bias = vector(module, "weight"), vector(module, "bias")
        has[trial.name] = {
            (True, True): "gain and bias",
            (True, False): "gain alone",
            (False, True): "bias alone",
            (False, False): "neither",
        }[gain is not None, bias is not None]
        learned += bool((gain is not None and (gain != 1).any()) or (bias is not None and (bias != 0).any()))
    off = [trial for trial in trials if not trial.candidates or trial.affine != has[trial.name]]
    if off:
        used = sorted({trial.affine if trial.candidates else "no use of them that was tried" for trial in off})
        return Check(
            name="gain and bias",
            passed=False,
            statement=(
                f"at {len(off)} of {len(trials)} sites the output comes from {' or '.join(used)}; the first is "
                f"{off[0].name}."
            ),
        )
    worst = max(trial.rms or 0.0 for trial in trials)
    return Check(
        name="gain and bias",
        passed=True,
        statement=(
            f"y = gain * xhat + bias reproduces every output to {worst:.1e}; gain or bias are learned at {learned} of "
            f"{len(trials)} sites."
        ),
    )
