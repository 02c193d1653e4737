"""What one rounding to the model's dtype, and the kernel's float32 arithmetic before it, leave of a number."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# What is the same, or follows from something, is so in at least this share of the numbers. Below 10,000 tokens a whole
# token that is otherwise is never within it.
LEVEL = 0.9999
# The kernel computes in float32, whatever the dtype, and rounds once at the end. Each term of
# gain * (x - mu) / scale + bias passes eight operations at most (subtract, scale, gain, add; mean, variance, sum with
# eps, root), each off by half a unit of float32's last place. (Measured on a CPU: a third of this at most.)
ARITHMETIC = 8 * float(np.finfo(np.float32).eps) / 2


def rounded(values: Floats, dtype: torch.dtype) -> Floats:
    """The values rounded to the dtype."""
    result: Floats = torch.from_numpy(values).to(dtype).double().numpy()
    return result


def arithmetic(x: Floats, xhat: Floats, scale: Floats, gain: Floats, bias: Floats) -> Floats:
    """How far float32 arithmetic may take gain * xhat + bias from what it is, before it is rounded to the dtype.

    Args:
        x: (tokens, features), what entered.
        xhat: (tokens, features), normalized.
        scale: what x - mu was divided by; it broadcasts.
        gain: (features,); it broadcasts.
        bias: (features,); it broadcasts.
    """
    size = np.sqrt(np.mean(x**2, axis=1, keepdims=True))
    error: Floats = ARITHMETIC * (np.abs(gain) * ((np.abs(x) + size) / scale + np.abs(xhat)) + np.abs(bias))
    return error


def reproduced(predicted: Floats, error: Floats, y: Floats, dtype: torch.dtype) -> NDArray[np.bool_]:
    """Which numbers of y a prediction that is off by at most ``error`` gives exactly, once rounded to the dtype."""
    low, high = rounded(predicted - error, dtype), rounded(predicted + error, dtype)
    return np.asarray((low <= y) & (y <= high))


def last_place(y: Floats, dtype: torch.dtype) -> Floats:
    """The unit of the last place of each number of y, which is of the dtype."""
    info = torch.finfo(dtype)
    _, exponent = np.frexp(np.where(np.isfinite(y), y, 0))
    unit: Floats = np.ldexp(info.eps, exponent - 1)
    return np.maximum(unit, info.tiny * info.eps)


def relative_to(difference: Floats, size: Floats) -> Floats:
    """Each difference relative to its size; none is none, of nothing too."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / size)
