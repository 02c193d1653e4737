"""From records to figures: one module for each kind of plot, drawn with matplotlib.

A kind is a module with ``RECORD``, the record that it draws, and ``draw(record) -> Figure``, registered in ``KINDS``::

    import gpt2ln_cli
    from gpt2ln_cli.commands.plot import figures

    figure = figures.draw("sigma", gpt2ln_cli.inspect("The war was over."))
    figures.save(figure, "sigma.svg", "svg")

Nothing here needs a display or changes matplotlib's global state. One record makes the same bytes again, under one
version of matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, BinaryIO

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.output.text import visible

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from gpt2ln_cli.records import Record

KINDS = {
    "sigma": "gpt2ln_cli.commands.plot.figures.sigma",
    "gain": "gpt2ln_cli.commands.plot.figures.gain",
    "heatmap": "gpt2ln_cli.commands.plot.figures.heatmap",
    "axis": "gpt2ln_cli.commands.plot.figures.axis",
    "ablation": "gpt2ln_cli.commands.plot.figures.ablation",
    "steps": "gpt2ln_cli.commands.plot.figures.steps",
    "features": "gpt2ln_cli.commands.plot.figures.features",
    "attribute": "gpt2ln_cli.commands.plot.figures.attribute",
    "track": "gpt2ln_cli.commands.plot.figures.track",
    "profile": "gpt2ln_cli.commands.plot.figures.profile",
}
# What each format is told about the file: a title, and no date, which would change the bytes.
METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": "gpt2ln"},
    "svg": {"Creator": "gpt2ln", "Date": None},
    "pdf": {"Creator": "gpt2ln", "CreationDate": None},
}
FORMATS = tuple(METADATA)
# Sequences that fit.
ROOM = {"heatmap": 6, "steps": 4}
DOTS_PER_INCH = {"png": 300, "svg": 600, "pdf": 600}


def check_matplotlib() -> None:
    """Find out whether matplotlib, an extra, is there.

    Raises:
        UsageError: it is not.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UsageError('plots need matplotlib: pip install ".[plot]".') from error


def check_room(kind: str, sequences: int) -> None:
    """Find out whether a figure has room for so many sequences.

    Raises:
        UsageError: it has not.
    """
    room = ROOM.get(kind, sequences)
    if sequences > room:
        raise UsageError(f"{sequences} sequences: plot {kind} has room for {room}; give fewer, or --overflow truncate.")


def draw(kind: str, record: Record, *, quantity: str | None = None) -> Figure:
    """Draw a record.

    Args:
        kind: one of ``KINDS``.
        record: what ``inspect`` (for ``heatmap`` with ``per_token=True``), ``params``, ``verify``, ``ablate``,
            ``features``, ``attribute``, ``track``, ``profile`` or :func:`gpt2ln_cli.commands.plot.compute.steps`
            returned; ``gain`` names outliers among the features that ``params(features=...)`` listed.
        quantity: for ``heatmap``, what is shown of each token: one of :data:`gpt2ln_cli.quantities.QUANTITIES`, sigma
            where it is None.

    Raises:
        UsageError: there is no such kind or quantity, matplotlib is missing, or the record is of another command or has
            not what the kind shows.
    """
    if kind not in KINDS:
        raise UsageError(f"no plot '{kind}': it is none of {', '.join(KINDS)}.")
    if quantity is not None and kind != "heatmap":
        raise UsageError(f"a quantity can't be chosen for '{kind}', for 'heatmap' alone.")
    check_matplotlib()
    from gpt2ln_cli.commands.plot.figures.style import styled

    module = import_module(KINDS[kind])
    if not isinstance(record, module.RECORD):
        raise UsageError(f"'{kind}' is drawn from the record {module.RECORD.__name__}, not {type(record).__name__}.")
    with styled():
        figure: Figure = module.draw(record) if quantity is None else module.draw(record, quantity=quantity)
        figure.set_label(f"gpt2ln plot {kind}: {visible(record.model.name)}")
        # Ticks are made when they are first drawn, and take their style from the context of that moment.
        figure.draw_without_rendering()
        # All formats share one layout, and it is made once.
        figure.set_layout_engine("none")
    return figure


def save(figure: Figure, target: str | Path | BinaryIO, image_format: str) -> None:
    """Write a figure to a file or a binary stream.

    PNG has 300 dots per inch. SVG draws its text as outlines and PDF embeds its TrueType font: both look the same
    everywhere.

    Args:
        figure: what :func:`draw` returned.
        target: a path, or a stream opened for bytes.
        image_format: one of ``FORMATS``.

    Raises:
        UsageError: there is no such format.
    """
    if image_format not in FORMATS:
        raise UsageError(f"no image format '{image_format}': it is none of {', '.join(FORMATS)}.")
    from gpt2ln_cli.commands.plot.figures.style import styled

    metadata = {"Title": str(figure.get_label()), **METADATA[image_format]}
    with styled():
        figure.savefig(target, format=image_format, dpi=DOTS_PER_INCH[image_format], metadata=metadata)
