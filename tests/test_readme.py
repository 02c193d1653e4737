"""What the README shows is what the commands print."""

from __future__ import annotations

import re

import pytest
from readme import BLOCK, README, output_of

BLOCKS = [(block["command"], block["output"]) for block in BLOCK.finditer(README.read_text(encoding="utf-8"))]
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_the_outputs_are_up_to_date(command, shown):
    """Words exactly; figures to their last digit but one and to rounding, since kernels round differently elsewhere."""
    got = output_of(command)
    words = [re.sub(r"\s+|─+", " ", NUMBER.sub("#", text)) for text in (got, shown)]
    assert words[0] == words[1]
    figures = [[float(figure.replace(",", "")) for figure in NUMBER.findall(text)] for text in (got, shown)]
    assert figures[0] == pytest.approx(figures[1], rel=2e-3, abs=1e-5)
