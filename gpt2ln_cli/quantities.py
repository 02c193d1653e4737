"""What is measured for each token: one entry for each quantity, which everything else takes from here.

A quantity is a field of :class:`Quantities` (of :class:`Summarized`, where sites are summarized by it), with what it is
called, what it means, and how it follows from what the kernel returned. A row is ``Quantities`` of float, a summary
``Summarized`` of ``Spread``. Rows, sorting, heatmaps, plots, tables, schema and completion have what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Generic, TypeVar, get_args

import msgspec

T = TypeVar("T")
Numbers = Any
"""Arrays of NumPy or tensors of torch: formulas use operators alone, which both have."""
POSITION = "position"
STREAM = "residual-stream units"


@dataclass(frozen=True)
class Kernel:
    """What the kernel returned for some tokens, or follows from that at once; arrays that broadcast with each other."""

    features: int
    """d, how many each statistic is over."""
    eps: Numbers
    """What the LayerNorm adds to the variance."""
    mean: Numbers
    """mu."""
    variance: Numbers
    """sigma^2; it divides by d."""
    post_norm: Numbers
    """||y||."""
    largest: Numbers = None
    """max|x| over the features; None where nobody had another look at x."""
    furthest: Numbers = None
    """max|x - mu| over the features; None as ``largest`` is."""
    fourth_moment: Numbers = None
    """Mean over the features of ((x - mu) / sigma)^4; None as ``largest`` is."""

    @cached_property
    def sigma(self) -> Numbers:
        """Population standard deviation."""
        return self.variance**0.5

    @cached_property
    def square_norm(self) -> Numbers:
        """||x||^2."""
        return self.features * (self.variance + self.mean**2)


@dataclass(frozen=True)
class Quantity:
    """One thing that is measured for each token."""

    name: str
    symbol: str
    """What heads a column or stands at an axis; a norm says which stage it is of."""
    short: str
    """The same where there is little room; a line break is where it may be broken."""
    unit: str
    """In words; of a pure number, nothing."""
    description: str
    of: Callable[[Kernel], Numbers]
    """How it follows from what the kernel returned."""
    signed: bool
    """Whether it takes both signs."""
    share: bool
    """Whether it is a share, 0 to 1, which reads best as a percentage."""
    shape: bool
    """Whether it needs another look at x, which costs time."""
    summarized: bool
    """Whether sites are summarized by it."""


def _quantity(
    symbol: str,
    of: Callable[[Kernel], Numbers],
    description: str,
    *,
    short: str | None = None,
    unit: str = "",
    signed: bool = False,
    share: bool = False,
    shape: bool = False,
) -> msgspec.Meta:
    about = {"symbol": symbol, "short": short or symbol, "of": of, "signed": signed, "share": share, "shape": shape}
    return msgspec.Meta(description=description, extra={"unit": unit, "quantity": about})


class Summarized(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """The quantities by which sites are summarized: what the kernel's own results suffice for."""

    mean: Annotated[
        T,
        _quantity(
            "mu",
            lambda at: at.mean,
            "mu, the mean of the features of x, in units of the residual stream.",
            unit=STREAM,
            signed=True,
        ),
    ]
    sigma: Annotated[
        T,
        _quantity(
            "sigma",
            lambda at: at.sigma,
            "Population standard deviation of the features of x (it divides by d), in units of the residual stream.",
            unit=STREAM,
        ),
    ]
    pre_norm: Annotated[
        T,
        _quantity(
            "||x||, pre",
            lambda at: at.square_norm**0.5,
            "||x||, the L2 norm of what enters the LayerNorm, in units of the residual stream.",
            short="||x||",
            unit=STREAM,
        ),
    ]
    normalized_norm: Annotated[
        T,
        _quantity(
            "||xhat||, normalized",
            lambda at: (at.features * at.variance / (at.variance + at.eps)) ** 0.5,
            "||xhat||, the L2 norm before gain and bias; without unit.",
            short="||xhat||",
        ),
    ]
    post_norm: Annotated[
        T,
        _quantity(
            "||y||, post",
            lambda at: at.post_norm,
            "||y||, the L2 norm of what leaves the LayerNorm, after gain and bias; without unit.",
            short="||y||",
        ),
    ]


class Quantities(Summarized[T], Generic[T], frozen=True, kw_only=True):
    """All quantities."""

    max_abs: Annotated[
        T,
        _quantity(
            "max|x|",
            lambda at: at.largest,
            "max|x|, the largest absolute value of a feature of x, in units of the residual stream.",
            unit=STREAM,
            shape=True,
        ),
    ]
    max_deviation: Annotated[
        T,
        _quantity(
            "max|x - mu| / sigma",
            lambda at: at.furthest / at.sigma,
            "max|x - mu| / sigma, in units of sigma; null on a row of equal features.",
            short="max\ndev",
            shape=True,
        ),
    ]
    excess_kurtosis: Annotated[
        T,
        _quantity(
            "excess kurtosis of x",
            lambda at: at.fourth_moment - 3.0,
            "m4 / sigma^4 - 3, m4 being the fourth central moment of x over the features; a pure number; null on a row "
            "of equal features.",
            short="excess\nkurt.",
            signed=True,
            shape=True,
        ),
    ]
    mean_share: Annotated[
        T,
        _quantity(
            "d mu^2 / ||x||^2",
            lambda at: at.features * at.mean**2 / at.square_norm,
            "d mu^2 / ||x||^2: the share of ||x||^2 that the mean direction held, 0 to 1.",
            short="mean\nshare",
            share=True,
        ),
    ]
    participation: Annotated[
        T,
        _quantity(
            "participation, 1 / kurtosis",
            lambda at: 1.0 / at.fourth_moment,
            "1 / (d sum_j p_j^2), where feature j has the share p_j = (x_j - mu)^2 / (d sigma^2) of sigma^2: the share "
            "of features that carry sigma^2, from 1/d (a single one does) to 1 (all do alike); it is 1 / (excess "
            "kurtosis + 3); null on a row of equal features.",
            short="partic.",
            share=True,
            shape=True,
        ),
    ]


def _entries() -> dict[str, Quantity]:
    summarized = {field.name for field in msgspec.structs.fields(Summarized)}
    found = {}
    for field in msgspec.structs.fields(Quantities):
        _, meta = get_args(field.type)
        unit, about = meta.extra["unit"], meta.extra["quantity"]
        found[field.name] = Quantity(
            name=field.name, unit=unit, description=meta.description, summarized=field.name in summarized, **about
        )
    return found


QUANTITIES = _entries()
"""By name, in the order in which a row has them."""
SUMMARIZED = tuple(name for name, quantity in QUANTITIES.items() if quantity.summarized)
SORT_KEYS = (POSITION, *QUANTITIES)
