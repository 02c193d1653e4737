"""Who wrote x: what each embedding, attention and MLP added to the residual stream, and its share of sigma^2.

x is the sum of what was written before the site, x = sum_c w_c. With a tilde for centered over the features, writer c
made the share <w~_c, x~> / ||x~||^2 of sigma^2, <w~_c, x~> being the sum over the features of w~_cj x~_j: what it made
through each. Its part of mu is its own mean over the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpt2ln_cli.measure.summary import PARTS
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.stand_in import EndForward, run, stand_in
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from transformers import GPT2Model

    from gpt2ln_cli.model.stand_in import Forward

Floats = NDArray[np.float64]
ROUNDING = "rounding"
# Sites whose x is kept until what was written before them is read, once for all of them: without heads and with. A pass
# is largest inside an MLP, where it holds three writers' outputs and the last x anyway; x of three sites more is what
# fits in their place. A head's output is not kept but computed for each reading.
SITES_AT_ONCE = {False: 4, True: 9}
# Writers of a site that are followed feature by feature, which costs more than all else: those with the largest shares
# of the first tokens.
FOLLOWED = 3
# Numbers that the writers of a chunk of tokens have in float64.
CHUNK = 2**19
# What is told of each writer at a token.
SHARE, MEAN, VALUE = range(3)
TOLD = 3


@dataclass(frozen=True)
class Writer:
    """What a module writes, or several parts of it."""

    names: Sequence[str]
    parts: Callable[[Tensor], Tensor]
    """From some tokens of what was kept, (tokens, ...), to the parts, (tokens, parts, features)."""


@dataclass(frozen=True)
class Written:
    """Who wrote x at one site, over one pass's tokens of one part; float64."""

    site: int
    part: int
    sums: Tensor
    """(told, writers), over the tokens."""
    followed: Tensor
    """Which writers are followed through the features, (followed,); the same in every pass."""
    through: Tensor
    """(followed, features): what each made of sigma^2 through each feature, summed over the tokens."""
    error: Tensor
    """Greatest |sum of the shares - 1|."""
    mean_error: Tensor
    """Greatest |sum of the means - mu|, in units of sigma."""
    x: Tensor
    """Of the feature that was asked for, the sum over the tokens; 0 without one."""
    sigma: Tensor
    """Of each token, (tokens,)."""
    told: Tensor | None
    """(tokens, told, writers), where every token's numbers are kept."""


class Attribution:
    """Reads who wrote x at some sites, pass by pass.

    Of a pass what its writers wrote is kept, and x of ``SITES_AT_ONCE`` sites.

    Args:
        body: the model.
        sites: the sites, in forward order; each pass stops after the last.
        heads: whether an attention's heads and its bias are writers of their own.
        rounding: whether what the sum lacks is a writer, the last.
        feature: whose values are read, too.
        per_token: whether every token's numbers are kept.

    Raises:
        UsageError: the body has no such modules, or is compiled.
    """

    def __init__(
        self,
        body: GPT2Model,
        sites: Sequence[Site],
        *,
        heads: bool = False,
        rounding: bool = False,
        feature: int | None = None,
        per_token: bool = False,
    ) -> None:
        self._body, self._sites, self._rounding = body, list(sites), rounding
        self._feature, self.per_token = feature, per_token
        self._at_once = SITES_AT_ONCE[heads]
        self._kept: list[tuple[Writer, Tensor]] = []
        self._pending: list[tuple[Site, int, Tensor]] = []
        self._parts: list[Tensor] = []
        self._found: list[Written] = []
        self._followed: dict[tuple[int, int], Tensor] = {}
        modules = _writers(body, sites[-1], heads=heads)
        self.names = [name for writer in modules.values() for name in writer.names] + [ROUNDING] * rounding
        """Of all writers, in forward order."""
        self.closing = [len(self.names) - 1] * rounding
        """Which of them closes every site's sum."""
        makes = {name: self._keeping(writer, before=name.endswith("c_proj")) for name, writer in modules.items()}
        self._stand_in = stand_in(body, {**makes, **{site.name: self._seeing(site) for site in sites}})

    def read(self, batch: Batch) -> list[Written]:
        """Run one batch, and tell of each site and part that has tokens; in the order of tokens in ``tokens``."""
        self._kept, self._pending, self._found = [], [], []
        self._parts = [part.to(self._body.device) for part in tokens(batch)]
        run(self._stand_in, batch)
        self._kept = []
        return self._found

    def before(self, site: Site) -> int:
        """How many of the names, the first, are of what is written before a site."""
        every = len(self.names) - self._rounding
        if site.layer is None:
            return every
        last = f"h.{site.layer}.{'attn' if site.kind == 'ln_1' else 'mlp'}"
        return next(
            (place for place, name in enumerate(self.names) if name == last or name.startswith(f"{last}.")),
            every,
        )

    def _keeping(self, writer: Writer, *, before: bool) -> Callable[[nn.Module], Forward]:
        """In the place of a module: keep what it gives, or what it gets, and give the same."""

        def make(module: nn.Module) -> Forward:
            def forward(*args: Any, **kwargs: Any) -> Any:
                given = module(*args, **kwargs)
                output = args[0] if before else given[0] if isinstance(given, tuple) else given
                self._kept.append((writer, output.flatten(0, 1)))
                return given

            return forward

        return make

    def _seeing(self, site: Site) -> Callable[[nn.Module], Forward]:
        def make(module: nn.Module) -> Forward:
            def forward(x: Tensor) -> Any:
                self._pending.append((site, len(self._kept), x.flatten(0, 1)))
                last = site == self._sites[-1]
                if last or len(self._pending) == self._at_once:
                    self._tell()
                if last:
                    raise EndForward
                return module(x)

            return forward

        return make

    def _tell(self) -> None:
        """What was written before the pending sites, part by part and chunk by chunk."""
        pending, self._pending = self._pending, []
        kept = self._kept[: pending[-1][1]]
        ends = [sum(len(writer.names) for writer, _ in self._kept[:count]) for _, count, _ in pending]
        numbers = [self._sites.index(site) for site, _, _ in pending]
        size = max(1, CHUNK // (ends[-1] * pending[0][2].shape[-1]))
        for part, chosen in enumerate(self._parts):
            chunks = [self._chunk(kept, pending, ends, some, part) for some in torch.split(chosen, size) if len(some)]
            for place, number in enumerate(numbers if chunks else ()):
                each = [chunk[place] for chunk in chunks]
                self._found.append(
                    Written(
                        site=number,
                        part=part,
                        sums=torch.stack([one.sums for one in each]).sum(0),
                        followed=self._followed[number, part],
                        through=torch.stack([one.through for one in each]).sum(0),
                        error=torch.stack([one.error for one in each]).amax(),
                        mean_error=torch.stack([one.mean_error for one in each]).amax(),
                        x=torch.stack([one.x for one in each]).sum(),
                        sigma=torch.cat([one.sigma for one in each]),
                        told=torch.cat([one.told for one in each if one.told is not None]) if self.per_token else None,
                    )
                )

    def _chunk(
        self,
        kept: Sequence[tuple[Writer, Tensor]],
        pending: Sequence[tuple[Site, int, Tensor]],
        ends: Sequence[int],
        some: Tensor,
        part: int,
    ) -> list[_Chunk]:
        """Some tokens of a part, at all pending sites."""
        # In place: a copy for each step would cost more than the products.
        device = "cpu" if some.device.type == "mps" else some.device  # which has no float64
        shape = (len(some), ends[-1], pending[0][2].shape[1])
        written = torch.empty(shape, dtype=torch.float64, device=device)
        x = torch.empty((shape[0], len(pending), shape[2]), dtype=torch.float64, device=device)
        end = 0
        for writer, output in kept:
            start, end = end, end + len(writer.names)
            written[:, start:end] = writer.parts(output.index_select(0, some))
        for place, (_, _, entering) in enumerate(pending):
            x[:, place] = entering.index_select(0, some)
        values = None if self._feature is None else tuple(each[:, :, self._feature].clone() for each in (written, x))
        means, mu = written.mean(dim=2), x.mean(dim=2)
        x -= mu[:, :, None]
        # <w_c, x~> is <w~_c, x~>, since x~ adds up to 0.
        square = x.square().sum(dim=2)
        shares = torch.bmm(written, x.transpose(1, 2)) / square[:, None]
        sigma = (square / x.shape[2]).sqrt()
        x /= square[:, :, None]
        return [
            self._told(
                shares[:, :end, place],
                means[:, :end],
                None if values is None else (values[0][:, :end], values[1][:, place]),
                mu[:, place],
                sigma[:, place],
                self._through(written, means, x[:, place], shares[:, :end, place], (self._sites.index(site), part)),
            )
            for place, (end, (site, _, _)) in enumerate(zip(ends, pending, strict=True))
        ]

    def _through(self, written: Tensor, means: Tensor, x: Tensor, shares: Tensor, where: tuple[int, int]) -> Tensor:
        """What the followed writers made through each feature, (followed, features); x is x~ / ||x~||^2."""
        if where not in self._followed:
            self._followed[where] = shares.mean(dim=0).abs().topk(min(FOLLOWED, shares.shape[1])).indices
        own, mean = (each.index_select(1, self._followed[where]) for each in (written, means))
        return own.sub_(mean[:, :, None]).mul_(x[:, None]).sum(dim=0)

    def _told(
        self,
        share: Tensor,
        mean: Tensor,
        values: tuple[Tensor, Tensor] | None,
        mu: Tensor,
        sigma: Tensor,
        through: Tensor,
    ) -> _Chunk:
        value, x = (torch.zeros_like(mean), torch.zeros_like(mu)) if values is None else values
        told = torch.stack([share, mean, value], dim=1)
        whole = torch.stack([torch.ones_like(mu), mu, x], dim=1)
        lacking = whole - told.sum(dim=2)
        if self._rounding:
            told = torch.cat([told, lacking[:, :, None]], dim=2)
            lacking = whole - told.sum(dim=2)
        return _Chunk(
            sums=told.sum(dim=0),
            through=through,
            error=lacking[:, SHARE].abs().amax(),
            mean_error=(lacking[:, MEAN].abs() / sigma).amax(),
            x=x.sum(),
            sigma=sigma,
            told=told if self.per_token else None,
        )


@dataclass(frozen=True)
class _Chunk:
    """As of ``Written``."""

    sums: Tensor
    through: Tensor
    error: Tensor
    mean_error: Tensor
    x: Tensor
    sigma: Tensor
    told: Tensor | None


def tokens(batch: Batch) -> list[Tensor]:
    """The batch's tokens at position 0 and later, as places in it, in the order of its rows."""
    real, first = batch.mask.bool(), batch.positions == 0
    parts = [(real & part).flatten().nonzero().squeeze(1) for part in (first, ~first)]
    assert len(parts) == len(PARTS)
    return parts


def wide(values: Tensor) -> Tensor:
    """In float64, which mps has not."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _writers(body: GPT2Model, last: Site, *, heads: bool) -> dict[str, Writer]:
    """What writes before the last site, by the module whose output tells of it, or of heads the projection's input."""
    found = {name: _whole(name) for name in ("wte", "wpe")}
    layers = body.config.n_layer if last.layer is None else last.layer + 1
    for layer in range(layers):
        attention, mlp = f"h.{layer}.attn", f"h.{layer}.mlp"
        ends = last.layer == layer
        if ends and last.kind == "ln_1":
            break
        if heads:
            projection = f"{attention}.c_proj"
            found[projection] = _heads(attention, body.get_submodule(projection), body.config.n_head)
        else:
            found[attention] = _whole(attention)
        if ends:
            break
        found[mlp] = _whole(mlp)
    return found


def _whole(name: str) -> Writer:
    return Writer([name], lambda output: output[:, None])


def _heads(name: str, projection: nn.Module, heads: int) -> Writer:
    """A head's output is what enters its rows of the projection's weight times these; then comes the bias."""
    weight, bias = (wide(getattr(projection, name).detach()) for name in ("weight", "bias"))
    weights = weight.reshape(heads, -1, weight.shape[1])

    def parts(entering: Tensor) -> Tensor:
        by_head = wide(entering).reshape(len(entering), heads, -1).transpose(0, 1)
        outputs = torch.bmm(by_head, weights).transpose(0, 1)
        return torch.cat([outputs, bias.expand(len(entering), 1, -1)], dim=1)

    return Writer([*(f"{name}.head.{head}" for head in range(heads)), f"{name}.bias"], parts)
