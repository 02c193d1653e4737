"""The names of what is measured for each token; they are the fields of a row and can order rows."""

from __future__ import annotations

QUANTITIES = (
    "mean",
    "sigma",
    "pre_norm",
    "normalized_norm",
    "post_norm",
    "max_deviation",
    "excess_kurtosis",
    "mean_share",
)
POSITION = "position"
SORT_KEYS = (POSITION, *QUANTITIES)
