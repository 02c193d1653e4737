"""Reading the statistics that a model's own LayerNorm kernel used, while it runs.

``torch.nn.functional.layer_norm`` calls ``torch.native_layer_norm`` and drops two of its three results: the mean and
1 / sqrt(variance + eps) of every token. The probe makes each wanted module call the same kernel and keep them, so the
numbers are the kernel's and the model's output stays bit for bit what it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gpt2ln_cli.model import forward_replaced, layer_norm
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from transformers import GPT2Model

# Where eps makes up this much of variance + eps, too few digits of the variance are left in the kernel's rstd ...
EPS_SHARE = 0.9
# ... and where |mean| exceeds sigma so many times, too few in the kernel's float32 variance.
MEAN_TO_SIGMA = 30.0


@dataclass(frozen=True)
class Shape:
    """What the shape of each token's features needs beyond the kernel's results."""

    lowest: Tensor
    """min of x over the features."""
    highest: Tensor
    """max of x over the features."""
    square_norm: Tensor
    """L2 norm of (x - mean)^2: the root of the sum of the fourth powers."""


@dataclass(frozen=True)
class Exact(Shape):
    """Tokens whose variance the kernel's results do not determine, taken from x; float64, (marked tokens,)."""

    rows: Tensor
    """bool, (sequences, tokens): which tokens."""
    mean: Tensor
    variance: Tensor
    """Population variance."""


@dataclass(frozen=True)
class SiteReading:
    """What one site's kernel returned in one forward pass; each tensor is (sequences, tokens), padding included."""

    site: Site
    mean: Tensor
    rstd: Tensor
    """1 / sqrt(variance + eps)."""
    post_norm: Tensor
    """L2 norm of the site's output."""
    shape: Shape | None
    exact: Exact | None
    """None where the kernel's results determine every token's variance."""


class _EndForward(Exception):  # noqa: N818  (not an error)
    """Ends a forward pass after the last wanted site; it never leaves the probe."""


@dataclass
class Probe:
    """Context manager that reads the wanted LayerNorms of a ``GPT2Model``; on leaving, the model is as it was.

    Args:
        body: the model. Its LayerNorms are ``h[layer].ln_1``, ``h[layer].ln_2`` and ``ln_f``.
        sites: the sites to read, in forward order.
        shape: also read what kurtosis and the largest deviation need; it costs another pass over x at each site.

    Example::

        with Probe(body, all_sites(12)) as probe:
            readings = probe.run(input_ids, attention_mask, position_ids)
    """

    body: GPT2Model
    sites: Sequence[Site]
    shape: bool = False
    _readings: list[SiteReading] = field(default_factory=list, init=False)
    _replaced: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)

    def __enter__(self) -> Probe:
        for site in self.sites:
            module = layer_norm(self.body, site)
            reader = self._reader(site, module, last=site == self.sites[-1] and site.layer is not None)
            self._replaced.enter_context(forward_replaced(module, reader))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._replaced.close()

    def run(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> list[SiteReading]:
        """Run one batch as far as the last wanted site and return the readings, one for each site in forward order.

        Args:
            input_ids: int64, (sequences, tokens), padded on the right.
            attention_mask: int64, (sequences, tokens): 1 for a token, 0 for padding.
            position_ids: int64, (sequences, tokens).
        """
        self._readings = []
        with torch.inference_mode(), contextlib.suppress(_EndForward):
            self.body(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False)
        readings, self._readings = self._readings, []
        return readings

    def _reader(self, site: Site, module: nn.LayerNorm, *, last: bool) -> Callable[[Tensor], Tensor]:
        features = list(module.normalized_shape)
        eps = module.eps
        # rstd above this leaves too few digits: eps * rstd^2 is the share of eps.
        rstd_limit = (EPS_SHARE / eps) ** 0.5

        def forward(x: Tensor) -> Tensor:
            weight: Tensor | None = module.weight
            bias: Tensor | None = module.bias
            if x.device.type == "cpu" and x.dtype != torch.float32 and x.dtype != torch.float64:
                # In half precision the CPU kernel rounds the statistics to the type of the parameters; float32
                # parameters give float32 statistics and the same output.
                weight = weight.float() if weight is not None else None
                bias = bias.float() if bias is not None else None
            y, mean, rstd = torch.native_layer_norm(x, features, weight, bias, eps)
            mean, rstd = mean.squeeze(-1), rstd.squeeze(-1)
            self._readings.append(
                SiteReading(
                    site=site,
                    mean=mean,
                    rstd=rstd,
                    post_norm=torch.linalg.vector_norm(y, dim=-1, dtype=rstd.dtype),
                    shape=_shape(x, mean) if self.shape else None,
                    exact=_exact(x, mean, rstd, rstd_limit),
                )
            )
            if last:
                raise _EndForward
            return y

        return forward


def _shape(x: Tensor, mean: Tensor) -> Shape:
    # amin and amax, since torch.aminmax is some twenty times slower; a norm, since x ** 4 would be many times dearer.
    squares = (x - mean.unsqueeze(-1)).square_()
    return Shape(lowest=x.amin(-1), highest=x.amax(-1), square_norm=torch.linalg.vector_norm(squares, dim=-1))


def _exact(x: Tensor, mean: Tensor, rstd: Tensor, rstd_limit: float) -> Exact | None:
    ratio = (mean * rstd).abs_()
    if float(rstd.max()) <= rstd_limit and float(ratio.max()) <= MEAN_TO_SIGMA:
        return None
    rows = (rstd > rstd_limit) | (ratio > MEAN_TO_SIGMA)
    if not bool(rows.any()):  # NaN alone brought it here
        return None
    # mps has no float64.
    wide = (x[rows].cpu() if x.device.type == "mps" else x[rows]).double()
    variance, wide_mean = torch.var_mean(wide, dim=-1, correction=0)
    shape = _shape(wide, wide_mean)
    return Exact(
        lowest=shape.lowest,
        highest=shape.highest,
        square_norm=shape.square_norm,
        rows=rows,
        mean=wide_mean,
        variance=variance,
    )
