"""Models on which each claim of ``ablate`` is so, and others on which it is not."""

from __future__ import annotations

import functools

from altered import altered, layer_norms, trained, untrained

import gpt2ln_cli
from gpt2ln_cli.text.prompts import HELD_OUT, long_sample

# Characters of the passage: enough for what is true to be told from chance.
TEXT = 2000


@functools.cache
def _ablated(make):
    return gpt2ln_cli.ablate(long_sample(HELD_OUT)[:TEXT], model=make())


def _off_center(body):
    """LayerNorm takes the mean out of every token; RMSNorm would not."""
    body.wpe.weight += 1.0


def _worse_than_none(body):
    """A gain and a bias that are better left out."""
    body.ln_f.weight.neg_()
    body.ln_f.bias.copy_(-5 * body.ln_f.bias)


def _centered(body):
    """All that is written to the residual stream has mean 0, so that there is none to subtract."""
    for embedding in (body.wte, body.wpe):
        embedding.weight -= embedding.weight.mean(-1, keepdim=True)
    for block in body.h:
        for writer in (block.attn.c_proj, block.mlp.c_proj):
            writer.weight -= writer.weight.mean(-1, keepdim=True)
            writer.bias -= writer.bias.mean()


def _deaf(body):
    """With a gain of 0 nothing of x comes through, whatever its scale."""
    for module in layer_norms(body):
        module.weight.zero_()


def _shrill(body):
    """Logits so large that next to none would be better."""
    body.ln_f.weight.mul_(100)


def centered():
    return altered(_centered, untrained())


def deaf():
    return altered(_deaf)


def shrill():
    return altered(_shrill, untrained())


def off_center():
    return altered(_off_center)


def worse_than_none():
    return altered(_worse_than_none)


def untrained_deep():
    return untrained(48)


# A feature of little weight, and how large it is made where it is massive.
FEATURE, SIZE = 60, 1000.0


def _massive(body):
    """The last MLP writes one feature so large that it makes up sigma; ln_f keeps it from y."""
    body.h[-1].mlp.c_proj.bias[FEATURE] += SIZE
    body.ln_f.weight[FEATURE] = 0
    body.ln_f.bias[FEATURE] = 0


def _reckoned_with(body):
    """The same, and ln_f's gain and bias undo what it does to sigma and mu: the model needs it there."""
    _massive(body)
    features = body.config.n_embd
    scale = SIZE * (features - 1) ** 0.5 / features / USUAL_SIGMA
    shift = SIZE / features / USUAL_SIGMA
    body.ln_f.bias += body.ln_f.weight * shift
    body.ln_f.weight *= scale


# Of ln_f at later positions of the bundled model.
USUAL_SIGMA = 5.5


def massive():
    return altered(_massive)


def reckoned_with():
    return altered(_reckoned_with)


@functools.cache
def _without(make, features):
    text = long_sample(HELD_OUT)[:TEXT]
    return gpt2ln_cli.ablate(text, model=make(), layers="final", ablated_features=features)


def _of_feature(claim, verdict, make, features=(FEATURE,)):
    return f"ablate.feature_{claim}", verdict, lambda: _without(make, features)


def _case(claim, verdict, make):
    return f"ablate.{claim}", verdict, lambda: _ablated(make)


CASES = [
    _case("real_has_lowest_loss", "yes", off_center),
    _case("real_has_lowest_loss", "can't tell", trained),  # RMSNorm is as good, but for chance
    _case("real_has_lowest_loss", "no", worse_than_none),
    _case("scale_needed", "yes", trained),
    _case("scale_needed", "no", shrill),
    _case("own_scale_needed", "yes", trained),
    _case("own_scale_needed", "no", deaf),
    _case("centering_needed", "yes", off_center),
    _case("centering_needed", "no", centered),
    _case("gain_needed", "yes", trained),
    _case("gain_needed", "no", worse_than_none),
    _case("gain_needed", "no", untrained_deep),
    _case("bias_needed", "yes", trained),
    _case("bias_needed", "no", worse_than_none),
    _case("bias_needed", "no", untrained_deep),
    _of_feature("matters", "yes", reckoned_with),
    _of_feature("matters", "no", massive),
    _of_feature("through_sigma", "yes", reckoned_with),
    _of_feature("through_sigma", "no", massive),
    _of_feature("through_y", "yes", trained, tuple(range(48))),
    _of_feature("through_y", "no", reckoned_with),
]
