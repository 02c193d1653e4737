"""What the axis trial tells of the model: its axis, its heads, its gain and bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.verify.record import AxisFit, SiteTrial
from gpt2ln_cli.measure.axes import Axis
from gpt2ln_cli.measure.rounding import LEVEL
from gpt2ln_cli.model import layer_norm, learned
from gpt2ln_cli.records import Claim
from gpt2ln_cli.sites import all_sites

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

    from gpt2ln_cli.records import ModelInfo, Verdict

OWN = Axis.PER_TOKEN.value


def axis(trials: Sequence[SiteTrial], axes: Sequence[AxisFit], model: ModelInfo) -> Claim:
    """Whether every site normalizes each token over its features, and nothing else fits."""
    others = [trial for trial in trials if OWN not in trial.candidates]
    doubtful = [trial for trial in trials if OWN in trial.candidates and trial.verdict is None]
    nearest = max(trials, key=lambda trial: trial.runner_up_reproduced)
    rivals = sorted({name for trial in doubtful for name in trial.candidates} - {OWN})
    followed = sorted({" or ".join(trial.candidates) or "no axis that was tried" for trial in others})
    first = others[0] if others else None
    return Claim(
        id="verify.axis",
        verdict="no" if others else "can't tell" if doubtful else "yes",
        statistic=next(fit.reproduced for fit in axes if fit.is_gpt2),
        threshold=LEVEL,
        figures={
            "sites": len(trials),
            "dtype": model.dtype,
            "axis": OWN,
            "next": nearest.runner_up,
            "next_reproduced": nearest.runner_up_reproduced,
            "otherwise": len(others),
            "followed": " and ".join(followed),
            "first": first.name if first else None,
            "first_best": first.best if first else None,
            "first_reproduced": first.reproduced if first else None,
            "doubtful": len(doubtful),
            "rivals": " and ".join(f"'{name}'" for name in rivals),
        },
    )


def heads(body: GPT2Model, axes: Sequence[AxisFit], trials: Sequence[SiteTrial]) -> Claim:
    """Whether the heads play no part."""
    fit = next(fit for fit in axes if fit.reading == Axis.PER_HEAD.value)
    followed = [trial for trial in trials if fit.reading in trial.candidates]
    alone = [trial for trial in followed if OWN not in trial.candidates]
    one_head = body.config.n_head == 1
    verdict: Verdict = "can't tell" if one_head or (followed and not alone) else "no" if alone else "yes"
    return Claim(
        id="verify.heads_play_no_part",
        verdict=verdict,
        statistic=None if one_head else len(followed),
        threshold=0,
        figures={
            "sites": len(trials),
            "heads": body.config.n_head,
            "features": body.config.n_embd,
            "axis": fit.reading,
            "alone": len(alone),
            "rms": fit.rms,
        },
    )


def gain_and_bias(body: GPT2Model, trials: Sequence[SiteTrial]) -> Claim:
    """Whether y = gain * xhat + bias, with the gain and bias that the checkpoint has.

    Where every gain is 1 and every bias 0 nothing tells whether they are applied.
    """
    has: dict[str, str] = {}
    trained = 0
    width = body.config.n_embd
    for site, trial in zip(all_sites(body.config.n_layer), trials, strict=True):
        module = layer_norm(body, site)
        gain, bias = learned(module, "weight", width), learned(module, "bias", width)
        has[trial.name] = {
            (True, True): "gain and bias",
            (True, False): "gain alone",
            (False, True): "bias alone",
            (False, False): "neither",
        }[gain is not None, bias is not None]
        trained += bool((gain is not None and (gain != 1).any()) or (bias is not None and (bias != 0).any()))
    off = [trial for trial in trials if not trial.candidates or trial.affine != has[trial.name]]
    used = sorted({trial.affine if trial.candidates else "no use of them that was tried" for trial in off})
    return Claim(
        id="verify.gain_and_bias",
        verdict="no" if off else "yes" if trained else "can't tell",
        statistic=len(off),
        threshold=0,
        figures={
            "sites": len(trials),
            "rms": max(trial.rms or 0.0 for trial in trials),
            "trained": trained,
            "used": " or ".join(used),
            "first": off[0].name if off else None,
        },
    )


def behaves(found: Sequence[Claim]) -> Claim:
    """Whether the checkpoint behaves as GPT-2 does: its axis is GPT-2's, and nothing came out otherwise."""
    otherwise = [one for one in found if one.verdict == "no"]
    undecided = [one for one in found if one.verdict == "can't tell"]
    axis_told = all(one.id != "verify.axis" for one in undecided)
    return Claim(
        id="verify.behaves_as_gpt2",
        verdict="no" if otherwise else "yes" if axis_told else "can't tell",
        statistic=len(otherwise),
        threshold=0,
        figures={"claims": len(found), "undecided": len(undecided)},
    )
