"""Viridis: perceptually even, readable for the colour-blind and in grey."""

from __future__ import annotations

# Every sixteenth of matplotlib's viridis (van der Walt and Smith, 2015; public domain), as red, green, blue.
VIRIDIS = (
    (68, 1, 84),
    (72, 24, 106),
    (71, 45, 123),
    (66, 64, 134),
    (59, 82, 139),
    (51, 99, 141),
    (44, 114, 142),
    (38, 130, 142),
    (33, 145, 140),
    (31, 160, 136),
    (40, 174, 128),
    (63, 188, 115),
    (94, 201, 98),
    (132, 212, 75),
    (173, 220, 48),
    (216, 226, 25),
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
