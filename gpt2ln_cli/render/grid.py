"""The rows of a record as arrays, for heatmaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from gpt2ln_cli.records import Inspection


def grids(record: Inspection, quantity: str) -> list[npt.NDArray[np.float64]]:
    """One quantity of each sequence, (sites, tokens); NaN where a number is not finite."""
    lines = {site.name: line for line, site in enumerate(record.sites)}
    values = [np.full((len(lines), prompt.length), np.nan) for prompt in record.prompts]
    for row in record.rows or ():
        value = getattr(row, quantity)
        if value is not None:
            values[row.sequence][lines[row.site], row.position] = value
    return values
