"""What is measured for each token: the names, which are the fields of a row and can order rows, and how they read."""

from __future__ import annotations

# With the stage that a norm is of.
LABELS = {
    "mean": "mu",
    "sigma": "sigma",
    "pre_norm": "||x||, pre",
    "normalized_norm": "||xhat||, normalized",
    "post_norm": "||y||, post",
    "max_deviation": "max|x - mu| / sigma",
    "excess_kurtosis": "excess kurtosis of x",
    "mean_share": "d mu^2 / ||x||^2",
}
QUANTITIES = tuple(LABELS)
POSITION = "position"
SORT_KEYS = (POSITION, *QUANTITIES)
# What a site is summarized by, beside mu.
SUMMARIZED = ("sigma", "pre_norm", "normalized_norm", "post_norm")
