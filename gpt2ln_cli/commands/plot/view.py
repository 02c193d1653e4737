"""The steps of tokens through a LayerNorm as four panels of numbers, and as small bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpt2ln_cli.output.bars import farthest
from gpt2ln_cli.output.blocks import View
from gpt2ln_cli.output.header import header
from gpt2ln_cli.output.pictures import Band, Bars, Lane
from gpt2ln_cli.output.text import number, quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpt2ln_cli.commands.inspect.record import VectorRow
    from gpt2ln_cli.commands.plot.record import Step, Steps

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """One step of every token."""

    title: str
    vectors: Sequence[Floats]
    """By token; NaN where a number is not finite."""
    reach: float
    """What their common scale reaches, up and down; x and x - mu have the same."""
    notes: Sequence[str]
    """mu, sigma and norm of each, in words."""


def panels(rows: Sequence[VectorRow]) -> list[Panel]:
    """The four steps of tokens through one LayerNorm: x, x - mu, xhat, gain * xhat + bias."""
    x, xhat, y = ([_floats(getattr(row, stage)) for row in rows] for stage in ("pre", "normalized", "post"))
    centred = [one - (np.nan if row.mean is None else row.mean) for one, row in zip(x, rows, strict=True)]
    mean, sigma = [row.mean for row in rows], [row.sigma for row in rows]
    same = farthest([_finite(one) for one in [*x, *centred]])
    return [
        Panel(
            "x, what enters",
            x,
            same,
            [f"mu {number(m)}, sigma {number(s)}, norm {_norm(one)}" for m, s, one in zip(mean, sigma, x, strict=True)],
        ),
        Panel(
            "x - mu, centred",
            centred,
            same,
            [f"mean 0, sigma {number(s)}, norm {_norm(one)}" for s, one in zip(sigma, centred, strict=True)],
        ),
        Panel(
            "xhat = (x - mu) / sqrt(sigma^2 + eps)",
            xhat,
            farthest([_finite(one) for one in xhat]),
            [f"mean 0, sigma {_of(np.std, one)}, norm {_norm(one)}" for one in xhat],
        ),
        Panel(
            "y = gain * xhat + bias",
            y,
            farthest([_finite(one) for one in y]),
            [f"mean {_of(np.mean, one)}, sigma {_of(np.std, one)}, norm {_norm(one)}" for one in y],
        ),
    ]


def view(record: Steps) -> View:
    """The model, the prompts, and the steps as small bars."""
    return View(record, [header(record.model, record.prompts), bars(record)])


def bars(record: Steps) -> Bars:
    """The steps as small bars: tokens beside each other, one scale for each step."""
    rows = [step.vectors for step in record.steps]
    return Bars(
        f"Through {rows[0].site}, {len(rows[0].pre)} features",
        [name(step) for step in record.steps],
        [
            Band(
                panel.title,
                [Lane(_finite(one), note) for one, note in zip(panel.vectors, panel.notes, strict=True)],
                panel.reach,
            )
            for panel in panels(rows)
        ],
    )


def name(step: Step) -> str:
    """Which token, and of what."""
    row = step.vectors
    token = f"id {row.token_id}" if row.token is None else quoted(row.token)
    of = "" if step.prompt is None or step.prompt.strip() == (row.token or "").strip() else f" of {quoted(step.prompt)}"
    return f"{token}{of}, position {row.position}"


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values])


def _finite(values: Floats) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _norm(values: Floats) -> str:
    return _of(np.linalg.norm, values)


def _of(what: Callable[[Floats], object], values: Floats) -> str:
    result = float(what(values))  # type: ignore[arg-type]
    return number(result if np.isfinite(result) else None)
