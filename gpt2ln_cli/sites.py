"""LayerNorm sites: the 2L + 1 modules that this tool reads, in forward order."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, cast, get_args

from gpt2ln_cli.errors import UsageError

SiteT = TypeVar("SiteT")
Kind = Literal["ln_1", "ln_2", "ln_f"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FINAL = "final"


@dataclass(frozen=True)
class Site:
    """One LayerNorm module: ``h.{layer}.ln_1``, ``h.{layer}.ln_2`` or ``ln_f`` (whose layer is None)."""

    layer: int | None
    kind: Kind

    @property
    def name(self) -> str:
        """The module's name in a GPT-2 checkpoint, without the ``transformer.`` prefix."""
        return self.kind if self.layer is None else f"h.{self.layer}.{self.kind}"

    @classmethod
    def named(cls, name: str) -> Site:
        """The site of that name."""
        *_, kind = parts = name.split(".")
        return cls(int(parts[1]) if len(parts) > 1 else None, cast(Kind, kind))


def all_sites(n_layer: int) -> list[Site]:
    """The 2L + 1 sites of a model with ``n_layer`` blocks, in forward order."""
    blocks = [Site(layer, kind) for layer in range(n_layer) for kind in KINDS[:2]]
    return [*blocks, Site(None, "ln_f")]


def parse_layers(text: str) -> list[int | str]:
    """Read a selection such as ``5``, ``0-3,11`` or ``10,final`` into layer numbers and ``"final"``.

    Raises:
        UsageError: the text is not such a list.
    """
    layers: list[int | str] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if first == FINAL and not dash:
            layers.append(FINAL)
        elif first.isdecimal() and (last.isdecimal() if dash else True):
            if max(len(first), len(last)) > 18:  # which int() may refuse to read
                raise UsageError(f"layer {max(first, last, key=len)[:18]}...: no GPT-2 has that many layers.")
            # Two bounds, not the numbers between them: a mistyped "0-99999999999" must not fill the memory.
            bounds = (int(first), int(last or first))
            if bounds[0] > bounds[1]:
                raise UsageError(f"layer range '{part.strip()}' runs backwards; write {bounds[1]}-{bounds[0]}.")
            if bounds[1] >= 100_000:
                raise UsageError(f"layer {bounds[1]}: no GPT-2 has that many layers.")
            layers.extend(range(bounds[0], bounds[1] + 1))
        else:
            raise UsageError(
                f"layer '{part.strip()}' is not a number, a range or '{FINAL}'; write 5, 0-3,11 or {FINAL}."
            )
    return layers


def select_sites(
    n_layer: int, layers: Sequence[int | str] | None = None, kinds: Collection[str] | None = None
) -> list[Site]:
    """The sites of the given layers and kinds, in forward order; None stands for all.

    Raises:
        UsageError: the model has no such layer, or the two selections leave nothing.
    """
    wanted: set[int | None] | None = None
    if layers is not None:
        wanted = {None if layer == FINAL else int(layer) for layer in layers}
        for layer in sorted(number for number in wanted if number is not None):
            if not 0 <= layer < n_layer:
                raise UsageError(f"layer {layer}: this model has layers 0 to {n_layer - 1}, and '{FINAL}' for ln_f.")
    for kind in kinds or ():
        if kind not in KINDS:
            raise UsageError(f"site '{kind}' is none of {', '.join(KINDS)}.")
    chosen = [
        site
        for site in all_sites(n_layer)
        if (wanted is None or site.layer in wanted) and (not kinds or site.kind in kinds)
    ]
    if not chosen:
        raise UsageError(
            "no LayerNorm is left: ln_1 and ln_2 belong to the numbered layers, ln_f to "
            f"'{FINAL}'; change the layers or the sites."
        )
    return chosen


def ranked(sites: Iterable[SiteT], value: Callable[[SiteT], float | None], top: int | None) -> list[SiteT]:
    """What there is of each site, greatest value first; sites of equal value in their order, those without one last.

    Args:
        sites: in forward order.
        value: what they are sorted by.
        top: how many to keep; None keeps all.
    """

    def order(site: SiteT) -> tuple[bool, float]:
        found = value(site)
        missing = found is None or math.isnan(found)
        return missing, 0.0 if found is None or missing else -found

    return sorted(sites, key=order)[:top]
