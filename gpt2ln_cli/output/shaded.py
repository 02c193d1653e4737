"""A matrix for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from gpt2ln_cli.output.matrix import NOTHING, STEPS, Matrix
from gpt2ln_cli.output.text import visible

GAP = 2
# Okabe and Ito's blue and vermilion, which the colour-blind tell apart.
ABOVE, BELOW = (0, 114, 178), (213, 94, 0)


def lines(matrix: Matrix, width: int, *, ascii_only: bool = False) -> Iterator[Text]:
    """The matrix for a terminal, as many columns beside each other as there is room for.

    Args:
        matrix: what to draw.
        width: columns of the terminal.
        ascii_only: whether nothing but ASCII can be shown.
    """
    rows = [(visible(name), cells) for name, cells in matrix.cells()]
    label = max(len(name) for name, _ in rows) + GAP
    headings = [heading.split("\n") for heading in matrix.columns]
    texts = [cell.text for _, cells in rows for cell in cells]
    wide = 1 + max(len(text) for text in [*texts, *(line for heading in headings for line in heading)])
    high = max(map(len, headings))
    at_once = max(1, (width - label) // wide)
    yield Text(visible(matrix.title), style="bold")
    for start in range(0, len(headings), at_once):
        yield Text()
        piece = slice(start, start + at_once)
        for line in range(high):
            names = [heading[line - high + len(heading)] if line >= high - len(heading) else "" for heading in headings]
            yield Text(" " * label + "".join(name.rjust(wide) for name in names[piece]), style="dim")
        for name, cells in rows:
            drawn = Text(name.ljust(label))
            for cell in cells[piece]:
                text = cell.text.replace(NOTHING, ".") if ascii_only else cell.text
                drawn.append(text.rjust(wide), _style(cell.step))
            yield drawn


def _style(step: int) -> str:
    if not step:
        return ""
    share = abs(step) / STEPS
    red, green, blue = (round(255 + share * (end - 255)) for end in (ABOVE if step > 0 else BELOW))
    return f"{'white' if share > 0.6 else 'black'} on rgb({red},{green},{blue})"
