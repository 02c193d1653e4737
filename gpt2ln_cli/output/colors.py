"""Scales of colours: viridis for what has one end, red and blue around white for what has a 0 in its middle.

Viridis is perceptually even and readable in grey; both are for the colour-blind.
"""

from __future__ import annotations

from collections.abc import Sequence

# 33 even steps of matplotlib's viridis (van der Walt and Smith, 2015; public domain), as red, green, blue.
VIRIDIS = (
    (68, 1, 84),
    (71, 13, 96),
    (72, 24, 106),
    (72, 35, 116),
    (71, 45, 123),
    (69, 54, 129),
    (66, 64, 134),
    (63, 73, 137),
    (59, 82, 139),
    (55, 90, 141),
    (51, 99, 141),
    (47, 106, 142),
    (44, 114, 142),
    (41, 122, 142),
    (38, 129, 142),
    (35, 137, 142),
    (33, 144, 140),
    (31, 152, 139),
    (31, 159, 136),
    (33, 166, 133),
    (40, 174, 128),
    (49, 181, 123),
    (62, 188, 116),
    (76, 194, 108),
    (93, 201, 99),
    (110, 206, 88),
    (130, 211, 76),
    (150, 216, 63),
    (171, 220, 50),
    (192, 223, 36),
    (213, 226, 26),
    (234, 229, 26),
    (253, 231, 37),
)
# The same for terminals with 256 colours, by their numbers: close to viridis, and each lighter than the one before.
VIRIDIS_256 = (53, 55, 24, 30, 36, 77, 148, 226)

# Blue below 0, red above: the 11 steps of RdBu reversed (Brewer, colorbrewer2.org; Apache License 2.0).
DIVERGING = (
    (5, 48, 97),
    (33, 102, 172),
    (67, 147, 195),
    (146, 197, 222),
    (209, 229, 240),
    (247, 247, 247),
    (253, 219, 199),
    (244, 165, 130),
    (214, 96, 77),
    (178, 24, 43),
    (103, 0, 31),
)
# The same for terminals with 256 colours.
DIVERGING_256 = (24, 31, 74, 153, 255, 223, 209, 167, 88)


def colored(share: float, colors: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """The colour at ``share`` of a scale, 0 to 1, between its neighbours."""
    place = min(max(share, 0.0), 1.0) * (len(colors) - 1)
    index = min(int(place), len(colors) - 2)
    rest = place - index
    red, green, blue = (
        round(low + rest * (high - low)) for low, high in zip(colors[index], colors[index + 1], strict=True)
    )
    return red, green, blue
