"""Viridis: perceptually even, readable for the colour-blind and in grey."""

from __future__ import annotations

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


def viridis(share: float) -> tuple[int, int, int]:
    """The colour at ``share`` of the scale, 0 to 1, between its neighbours in ``VIRIDIS``."""
    place = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    index = min(int(place), len(VIRIDIS) - 2)
    rest = place - index
    red, green, blue = (
        round(low + rest * (high - low)) for low, high in zip(VIRIDIS[index], VIRIDIS[index + 1], strict=True)
    )
    return red, green, blue
