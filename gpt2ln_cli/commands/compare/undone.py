"""What a LayerNorm made of some tokens, with gain and bias taken off again."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpt2ln_cli.measure.axes import Axis, standardized
from gpt2ln_cli.measure.ledger import Floats
from gpt2ln_cli.measure.rounding import arithmetic, last_place, reproduced
from gpt2ln_cli.model import Model, eps_of, layer_norm, learned
from gpt2ln_cli.model.instrument import Passage, watch
from gpt2ln_cli.model.subject import Subject
from gpt2ln_cli.sites import Site


@dataclass(frozen=True)
class Undone:
    """One site's input and output for some tokens, with gain and bias taken off the output; (tokens, features)."""

    x: Floats
    xhat: Floats
    y: Floats
    eps: float
    last_rounding: Floats
    """Half a unit of the last place of each feature of y."""
    arithmetic: Floats
    """How far the kernel's float32 arithmetic may take each feature of y before that."""
    rounding: Floats
    """What both make of each feature of x that is rebuilt from xhat."""
    rebuilt: NDArray[np.bool_]
    """Whether the feature of y is what x, mu and sigma give, rounded once."""
    gain: Floats
    bias: Floats

    def part(self, rows: slice) -> Undone:
        """The same of some of the tokens."""
        by_token = ("x", "xhat", "y", "last_rounding", "arithmetic", "rounding", "rebuilt")
        return replace(self, **{name: getattr(self, name)[rows] for name in by_token})


def undo(loaded: Model, passage: Passage) -> Undone:
    """Take gain and bias off a site's output, so that what is left is what the module itself made of x."""
    module, eps = layer_norm(loaded.lazy_body, passage.site), eps_of(loaded.lazy_body, passage.site)
    dtype = loaded.lazy_body.dtype
    x, y = passage.x, passage.y
    gain, bias = learned(module, "weight", x.shape[1]), learned(module, "bias", x.shape[1])
    gain = np.ones(x.shape[1]) if gain is None else gain
    bias = np.zeros(x.shape[1]) if bias is None else bias
    by_definition, scale = standardized(Axis.PER_TOKEN, x, [len(x)], heads=1, eps=eps)
    # What is not finite is the record's to say.
    with np.errstate(invalid="ignore", over="ignore"):
        last_rounding = last_place(y, dtype) / 2
        before_it = arithmetic(x, by_definition, scale, gain, bias)
        error = last_rounding + before_it
        # Where rounding leaves less of xhat in y than its own size, it is taken by its definition.
        off = error > np.abs(gain)
        safe = np.where(off, 1.0, gain)
        return Undone(
            x=x,
            xhat=np.where(off, by_definition, (y - bias) / safe),
            y=y,
            eps=eps,
            last_rounding=last_rounding,
            arithmetic=before_it,
            rounding=np.where(off, 0.0, scale * error / np.abs(safe)),
            rebuilt=reproduced(gain * by_definition + bias, before_it, y, dtype),
            gain=gain,
            bias=bias,
        )


def see_all(
    subject: Subject,
    sites: Sequence[Site],
    see: Callable[[dict[int, int], Passage], None],
) -> None:
    """Run all batches; ``see`` is shown each site's passage, and where in it each context's tokens begin.

    Args:
        subject: the model and the contexts.
        sites: the sites to see, in forward order.
        see: called with the numbers of the contexts in a batch, each with its first token's row, and with the passage.
    """
    steps = subject.steps()
    for batch, rows in subject.passes():
        lengths = [len(context.token_ids) for _, context in rows]
        starts = dict(zip((number for number, _ in rows), itertools.accumulate([0, *lengths[:-1]]), strict=True))
        watch(subject.model.lazy_body, batch, sites, functools.partial(see, starts))
        steps.add(sum(lengths))
