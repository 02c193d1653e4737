"""A profile's figures beside published ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gpt2ln_cli.commands.profile.record import Distribution, Held, Published, SiteProfile
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure.chance import LEVEL, student
from gpt2ln_cli.paths import user_path
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.records import Claim, ModelInfo, Verdict

BUNDLED = "published"
"""Names the table of this package."""
TABLE = Path(__file__).parents[2] / "bundled" / "published.json"
PARTS = ("first", "rest")
NUMBERS = ("mean", "std", "rms", "min", "max", "quantiles")
# Whose sampling error follows from the standard deviation.
AVERAGES = ("mean", "rms")


def published(table: str | Path | None) -> list[Published] | None:
    """The figures of a table.

    Args:
        table: a JSON file, or ``published`` for the bundled one; None is none.

    Raises:
        UsageError: it can't be read, or is no such table.
    """
    if table is None:
        return None
    path = TABLE if str(table) == BUNDLED else user_path(table)
    try:
        figures = msgspec.json.decode(path.read_bytes(), type=list[Published])
    except OSError as error:
        raise UsageError(f"can't read the published figures of {table}: {error.strerror or error}.") from error
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{table} is no table of published figures: {error}; it is a list of objects with name, site, quantity, "
            "value, tolerance and source."
        ) from error
    for number, figure in enumerate(figures):
        part, _, rest = figure.quantity.partition(".")
        quantity, _, told = rest.partition(".")
        if part not in PARTS or quantity not in QUANTITIES or told.partition(".")[0] not in NUMBERS:
            raise UsageError(
                f"{table}, figure {number}: quantity '{figure.quantity}' is none of a profile's; write it as "
                "'rest.sigma.rms' or 'first.max_abs.quantiles.99'."
            )
    return figures


def hold(
    model: ModelInfo, sites: Sequence[SiteProfile], windows: int, figures: Sequence[Published]
) -> tuple[list[Held], list[Claim]]:
    """Those of the figures that are of the model, beside its own, and whether each is met.

    Args:
        model: whose name the figures bear.
        sites: what was measured.
        windows: on how many windows; tokens of one are no independent sample.
        figures: of any models.

    Raises:
        UsageError: none is of the model, or one is of no number of this run.
    """
    name = model.name.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    chosen = [figure for figure in figures if figure.name == name]
    if not chosen:
        names = ", ".join(dict.fromkeys(figure.name for figure in figures)) or "nothing"
        raise UsageError(f"no published figure is of '{name}', which this run is of: the table has {names}.")
    held, claims = [], []
    by_name = {site.name: site for site in sites}
    for figure in chosen:
        if figure.site not in by_name:
            raise UsageError(f"a published figure is of {figure.site}, which '{name}' does not have.")
        measured, error = _measured(by_name[figure.site], figure.quantity, windows)
        off = None if measured is None or not figure.value else (measured - figure.value) / abs(figure.value)
        verdict = _verdict(off, error / abs(figure.value) if figure.value else 0.0, figure.tolerance)
        held.append(Held(**msgspec.structs.asdict(figure), measured=measured, off=off, verdict=verdict))
        claims.append(
            Claim(
                id="profile.published",
                verdict=verdict,
                statistic=None if off is None else abs(off),
                threshold=figure.tolerance,
                level=LEVEL if error else None,
                figures={
                    "name": figure.name,
                    "site": figure.site,
                    "quantity": figure.quantity,
                    "value": figure.value,
                    "measured": measured,
                    "error": error if math.isfinite(error) else None,
                    "source": figure.source,
                },
            )
        )
    return held, claims


def _measured(site: SiteProfile, quantity: str, windows: int) -> tuple[float | None, float]:
    """This run's number, and how far chance takes it from that of the whole text.

    The error of a mean is at most that of as many independent tokens as there are windows, the root mean square's
    about as large, at the level of a claim; of other numbers none is known.
    """
    part, name, told = quantity.split(".", 2)
    over = getattr(site, part)
    found: Distribution | None = None if over is None else getattr(over, name)
    if found is None:
        return None, 0.0
    if told.startswith("quantiles."):
        percent = told.partition(".")[2]
        if percent not in found.quantiles:
            raise UsageError(f"a published figure is of the quantile of {percent} percent: give --quantile {percent}.")
        return found.quantiles[percent], 0.0
    value: float | None = getattr(found, told)
    if told not in AVERAGES or found.std is None:
        return value, 0.0
    return value, student(1 - LEVEL / 2, windows - 1) * found.std / math.sqrt(windows) if windows > 1 else math.inf


def _verdict(off: float | None, error: float, tolerance: float) -> Verdict:
    if off is None or not math.isfinite(off):
        return "can't tell"
    if abs(off) + error <= tolerance:
        return "yes"
    return "no" if abs(off) - error > tolerance else "can't tell"
