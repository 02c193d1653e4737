"""The one way into a model's LayerNorms: read the kernel's statistics, see x and y, compute something else, stop early.

Nothing is ever put into the model itself: a pass runs through a stand-in (``stand_in.py``).

``torch.nn.functional.layer_norm`` calls ``torch.native_layer_norm`` and drops two of its three results: the mean and
1 / sqrt(variance + eps) of every token. A reading calls the same kernel and keeps them, so the numbers are the kernel's
and the model's output stays bit for bit what it was. Reading waits for no device: nothing in a pass depends on a value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.stand_in import EndForward, Forward, class_of, run, stand_in, undisturbed
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from transformers import GPT2Model

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """What the shape of each token's features needs beyond the kernel's results."""

    lowest: Tensor
    """min of x over the features."""
    highest: Tensor
    """max of x over the features."""
    square_norm: Tensor
    """L2 norm of ((x - mean) rstd)^2; scaled, since fourth powers leave float32 from 1e-11 down and 1e9 up."""


@dataclass(frozen=True)
class Reading:
    """What one site's kernel returned in one forward pass; each tensor is (sequences, tokens), padding included."""

    site: Site
    eps: float
    """The module's own."""
    mean: Tensor
    rstd: Tensor
    """1 / sqrt(variance + eps)."""
    post_norm: Tensor
    """L2 norm of the site's output."""
    shape: Shape | None


@dataclass(frozen=True)
class Exact:
    """Tokens whose variance the kernel's results do not determine, taken from x in float64; (tokens,)."""

    mean: Tensor
    variance: Tensor
    """Population variance."""
    square_norm: Tensor
    """L2 norm of ((x - mean) / sigma)^2."""


class Instrument:
    """Reads the statistics of the wanted LayerNorms of a ``GPT2Model``, pass by pass.

    Args:
        body: the model. Its LayerNorms are ``h[layer].ln_1``, ``h[layer].ln_2`` and ``ln_f``.
        sites: the sites to read, in forward order.
        shape: also read what kurtosis and the largest deviation need; it costs another pass over x at each site.
        see: shown each site's x and y as they pass, (sequences, tokens, features); it must not change or keep them.

    Raises:
        UsageError: a site's forward is not ``nn.LayerNorm``'s own, or the body is compiled.

    Example::

        readings = Instrument(body, all_sites(12)).read(Batch.of([[464, 3290]]))
    """

    def __init__(
        self,
        body: GPT2Model,
        sites: Sequence[Site],
        *,
        shape: bool = False,
        see: Callable[[Site, Tensor, Tensor], None] | None = None,
    ) -> None:
        self._body, self._sites, self._shape, self._see = body, sites, shape, see
        self._readings: list[Reading] = []
        makes = {site: functools.partial(self._reader, site, last=site == sites[-1]) for site in sites}
        self._stand_in = stand_in(body, makes)

    def read(self, batch: Batch) -> list[Reading]:
        """Run one batch as far as the last wanted site and return the readings, one for each site in forward order.

        Raises:
            UsageError: the body did not run one of the sites.
        """
        self._readings = []
        run(self._stand_in, batch)
        readings, self._readings = self._readings, []
        _check_ran(self._body, self._sites, [reading.site for reading in readings])
        return readings

    def read_exactly(self, batch: Batch, tokens: Mapping[Site, Tensor]) -> dict[Site, Exact]:
        """Run one batch again and take some tokens' statistics from x itself.

        Args:
            batch: the batch.
            tokens: of each site where there are any, int64 indices into (sequences x tokens).
        """
        found: dict[Site, Exact] = {}

        def see(site: Site, rows: Tensor, x: Tensor, _: Tensor) -> None:
            found[site] = _exact(x.index_select(0, rows))

        _see_tokens(self._body, batch, tokens, see)
        return found

    def _reader(self, site: Site, module: nn.Module, *, last: bool) -> Forward:
        norm = _own_layer_norm(site, module)
        features, eps = list(norm.normalized_shape), norm.eps
        weight: Tensor | None = norm.weight
        bias: Tensor | None = norm.bias
        # Nothing but the output of ln_f comes after it.
        end = last and site.layer is not None

        def forward(x: Tensor) -> Tensor:
            gain, shift = weight, bias
            if x.device.type == "cpu" and x.dtype != torch.float32 and x.dtype != torch.float64:
                # In half precision the CPU kernel rounds the statistics to the type of the parameters; float32
                # parameters give float32 statistics and the same output.
                gain = gain.float() if gain is not None else None
                shift = shift.float() if shift is not None else None
            y, mean, rstd = torch.native_layer_norm(x, features, gain, shift, eps)
            shape = _shape(x, mean, rstd) if self._shape else None
            mean, rstd = mean.squeeze(-1), rstd.squeeze(-1)
            post_norm = torch.linalg.vector_norm(y, dim=-1, dtype=rstd.dtype)
            self._readings.append(Reading(site, eps, mean, rstd, post_norm, shape))
            if self._see is not None:
                self._see(site, x, y)
            if end:
                raise EndForward
            return y

        return forward


def read_vectors(body: GPT2Model, batch: Batch, tokens: Mapping[Site, Tensor]) -> dict[Site, tuple[Tensor, Tensor]]:
    """Run one batch and keep what entered and what left some LayerNorms at some tokens.

    Args:
        body: the model.
        batch: the batch.
        tokens: of each site, in forward order, int64 indices into (sequences x tokens).

    Returns:
        Of each site x and y, (tokens, features), to the bit, on the CPU and no narrower than float32.
    """
    found: dict[Site, tuple[Tensor, Tensor]] = {}

    def see(site: Site, rows: Tensor, x: Tensor, y: Tensor) -> None:
        found[site] = (_taken(x, rows), _taken(y, rows))

    _see_tokens(body, batch, tokens, see)
    return found


def _taken(values: Tensor, rows: Tensor) -> Tensor:
    taken = values.index_select(0, rows).cpu()
    return taken if taken.dtype == torch.float64 else taken.float()


def _see_tokens(
    body: GPT2Model,
    batch: Batch,
    tokens: Mapping[Site, Tensor],
    see: Callable[[Site, Tensor, Tensor, Tensor], None],
) -> None:
    """Run one batch as far as the last of the sites, and show of each the rows that are wanted, x and y."""
    # Before the pass: nothing is to be waited for in it.
    wanted = {site: chosen.to(body.device) for site, chosen in tokens.items()}
    last = list(tokens)[-1]

    def make(site: Site, module: nn.Module) -> Forward:
        def forward(x: Tensor) -> Tensor:
            y: Tensor = module(x)
            see(site, wanted[site], x.flatten(0, 1), y.flatten(0, 1))
            if site == last:
                raise EndForward
            return y

        return forward

    run(stand_in(body, {site: functools.partial(make, site) for site in tokens}), batch)


@dataclass(frozen=True)
class Passage:
    """What went into one LayerNorm and what came out, in one forward pass, in float64; padding is left out."""

    site: Site
    x: Floats
    """(tokens, features), the tokens of all sequences in order."""
    y: Floats
    """(tokens, features)."""


def watch(
    body: GPT2Model,
    batch: Batch,
    sites: Sequence[Site],
    see: Callable[[Passage], None],
    replace: Mapping[Site, Forward] | None = None,
) -> Tensor:
    """Run one batch and show each site's passage as it happens, so that none needs to be kept.

    Args:
        body: the model; its LayerNorm modules may be anything that maps x to y.
        batch: the batch.
        sites: the sites to see, in forward order.
        see: called once for each of them; whatever hooks the module has, y is what comes after them.
        replace: what is computed at some sites, these or others, in the place of their modules.

    Returns:
        The last hidden state, (sequences, tokens, features).

    Raises:
        UsageError: the body is compiled, or did not run one of the sites.
    """
    replace = replace or {}
    real = batch.mask.bool()
    seen: list[Site] = []

    def make(site: Site, module: nn.Module) -> Forward:
        compute = replace.get(site, module)

        def forward(x: Tensor) -> Tensor:
            y: Tensor = compute(x)
            seen.append(site)
            if site in sites:
                tokens = real.to(x.device)
                see(Passage(site, _float64(x[tokens]), _float64(y[tokens])))
            return y

        return forward

    wanted = list(dict.fromkeys([*sites, *replace]))
    hidden = run(stand_in(body, {site: functools.partial(make, site) for site in wanted}), batch)
    _check_ran(body, wanted, seen)
    assert hidden is not None  # nothing ended the pass
    return hidden


def gradients(
    body: GPT2Model,
    batch: Batch,
    sites: Sequence[Site],
    loss: Callable[[Tensor], Tensor],
    replace: Mapping[Site, Forward] | None = None,
) -> tuple[float, dict[Site, Tensor]]:
    """Run one batch, and differentiate a loss by what enters each of the sites: the residual stream there.

    Args:
        body: the model; whether its parameters ask for gradients makes no difference, and none gets any.
        batch: the batch.
        sites: the sites, in forward order.
        loss: makes it of the last hidden state, (sequences, tokens, features).
        replace: what is computed at some sites in the place of their modules; it must be differentiable.

    Returns:
        The loss, and its gradient at each site, (sequences, tokens, features).

    Raises:
        UsageError: the body is compiled, or did not run one of the sites.
    """
    replace = replace or {}
    entered: dict[Site, Tensor] = {}

    def make(site: Site, module: nn.Module) -> Forward:
        compute = replace.get(site, module)

        def forward(x: Tensor) -> Tensor:
            # The block adds what it computes to this very tensor. The first of them begins the graph.
            entered[site] = x if x.requires_grad else x.requires_grad_()
            y: Tensor = compute(x)
            return y

        return forward

    makes = {site: functools.partial(make, site) for site in dict.fromkeys([*sites, *replace])}
    hidden = run(stand_in(body, makes), batch, differentiable=True)
    _check_ran(body, list(makes), list(entered))
    assert hidden is not None  # nothing ended the pass
    with undisturbed(body.device, differentiable=True):
        value = loss(hidden)
        found = torch.autograd.grad(value, [entered[site] for site in sites])
    return float(value.detach()), dict(zip(sites, found, strict=True))


def _float64(tensor: Tensor) -> Floats:
    values: Floats = tensor.double().cpu().numpy()
    return values


def _own_layer_norm(site: Site, module: nn.Module) -> nn.LayerNorm:
    """The module, where all that it does is to call the kernel.

    Raises:
        UsageError: it does something else, or more.
    """
    why = None
    if not isinstance(module, nn.LayerNorm):
        why = "it is no nn.LayerNorm"
    elif type(module).forward is not nn.LayerNorm.forward or type(module).__call__ is not nn.Module.__call__:
        why = "its class has a forward of its own"
    elif "forward" in module.__dict__:
        why = "its forward was replaced"
    elif module._forward_hooks or nn.modules.module._global_forward_hooks:
        why = "it has forward hooks, which can change what the kernel returned"
    elif len(module.normalized_shape) != 1:
        why = f"it normalizes over {len(module.normalized_shape)} dimensions"
    if why is not None:
        raise UsageError(
            f"{site.name} ({class_of(module)}) can't be read: {why}, and the statistics are those of nn.LayerNorm's "
            "own kernel; put a plain nn.LayerNorm there, or use verify, compare or ablate, which take any module."
        )
    assert isinstance(module, nn.LayerNorm)
    return module


def _check_ran(body: nn.Module, wanted: Sequence[Site], ran: Sequence[Site]) -> None:
    missing = [site.name for site in wanted if site not in ran]
    if missing:
        raise UsageError(
            f"this {class_of(body)} has {', '.join(missing)} and does not run it: there is nothing to see."
        )


def at_once(device: torch.device, features: int) -> int:
    """How many tokens to work on at a time: on a CPU what is made of them fits a core's second cache.

    That is three times as fast as from beyond it. Elsewhere many small pieces are slower than a few large ones.
    """
    return max(1, (2**17 if device.type == "cpu" else 2**24) // features)


def _shape(x: Tensor, mean: Tensor, rstd: Tensor) -> Shape:
    pieces = -(-x.shape[:-1].numel() // at_once(x.device, x.shape[-1]))
    kind = torch.promote_types(x.dtype, mean.dtype)
    if pieces == 1:
        return Shape(*_shape_of(x, mean, rstd, torch.empty_like(x, dtype=kind)))
    of_each = [each.flatten(0, -2).chunk(pieces) for each in (x, mean, rstd)]
    # Used again by every piece.
    room = torch.empty_like(of_each[0][0], dtype=kind)
    found = zip(*(_shape_of(x, mu, r, room[: len(x)]) for x, mu, r in zip(*of_each, strict=True)), strict=True)
    return Shape(*(torch.cat(each).view(x.shape[:-1]) for each in found))


def _shape_of(x: Tensor, mean: Tensor, rstd: Tensor, room: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # amin and amax, since torch.aminmax is some twenty times slower; a norm, since x ** 4 would be many times dearer.
    squares = torch.sub(x, mean, out=room).mul_(rstd).square_()
    return x.amin(-1), x.amax(-1), torch.linalg.vector_norm(squares, dim=-1)


def _exact(x: Tensor) -> Exact:
    # mps has no float64; there alone a pass waits for the device.
    wide = (x.cpu() if x.device.type == "mps" else x).double()
    variance, mean = torch.var_mean(wide, dim=-1, correction=0, keepdim=True)
    squares = (wide - mean).div_(variance.sqrt()).square_()
    return Exact(mean.squeeze(-1), variance.squeeze(-1), torch.linalg.vector_norm(squares, dim=-1))
