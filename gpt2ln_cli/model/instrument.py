"""The one way into a model's LayerNorms: read the kernel's statistics, see x and y, compute something else, stop early.

Nothing is ever put into the model itself. A pass runs through a *stand-in*: copies of the modules that lead to the
wanted sites, with the model's own parameters, buffers, hooks and code, in which other functions take the LayerNorms'
places. So there is nothing to lock, to undo or to leave behind: other threads, the user's own forward passes beside it,
training flags and whatever is raised inside never meet.

``torch.nn.functional.layer_norm`` calls ``torch.native_layer_norm`` and drops two of its three results: the mean and
1 / sqrt(variance + eps) of every token. A reading calls the same kernel and keeps them, so the numbers are the kernel's
and the model's output stays bit for bit what it was. Reading waits for no device: nothing in a pass depends on a value.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from transformers import GPT2Model

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Batch:
    """Sequences padded to one length, the padding on the right unless told otherwise; int64, (sequences, tokens)."""

    ids: Tensor
    mask: Tensor
    """1 for a token, 0 for padding."""
    positions: Tensor
    left: bool = False
    """Whether the padding is on the left."""

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], *, left: bool = False) -> Batch:
        """Pad on the right: GPT-2's positions are absolute, so padding on the left would move them.

        The padding's id does not matter: no real token attends to a later position.
        """
        longest = max(map(len, sequences))
        ids = torch.zeros((len(sequences), longest), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            place = slice(longest - len(sequence), None) if left else slice(len(sequence))
            ids[row, place] = torch.tensor(sequence)
            mask[row, place] = 1
        return cls(ids, mask, torch.arange(longest).expand_as(ids), left)

    @classmethod
    def left_padded(cls, sequences: Sequence[Sequence[int]]) -> Batch:
        """Pad on the left and let positions count from the padding on, which is wrong for GPT-2."""
        return cls.of(sequences, left=True)


@dataclass(frozen=True)
class Shape:
    """What the shape of each token's features needs beyond the kernel's results."""

    lowest: Tensor
    """min of x over the features."""
    highest: Tensor
    """max of x over the features."""
    square_norm: Tensor
    """L2 norm of ((x - mean) rstd)^2; scaled, since fourth powers leave float32 from 1e-11 down and 1e9 up."""


@dataclass(frozen=True)
class Reading:
    """What one site's kernel returned in one forward pass; each tensor is (sequences, tokens), padding included."""

    site: Site
    eps: float
    """The module's own."""
    mean: Tensor
    rstd: Tensor
    """1 / sqrt(variance + eps)."""
    post_norm: Tensor
    """L2 norm of the site's output."""
    shape: Shape | None


@dataclass(frozen=True)
class Exact:
    """Tokens whose variance the kernel's results do not determine, taken from x in float64; (tokens,)."""

    mean: Tensor
    variance: Tensor
    """Population variance."""
    square_norm: Tensor
    """L2 norm of ((x - mean) / sigma)^2."""


class Instrument:
    """Reads the statistics of the wanted LayerNorms of a ``GPT2Model``, pass by pass.

    Args:
        body: the model. Its LayerNorms are ``h[layer].ln_1``, ``h[layer].ln_2`` and ``ln_f``.
        sites: the sites to read, in forward order.
        shape: also read what kurtosis and the largest deviation need; it costs another pass over x at each site.

    Raises:
        UsageError: a site's forward is not ``nn.LayerNorm``'s own, or the body is compiled.

    Example::

        readings = Instrument(body, all_sites(12)).read(Batch.of([[464, 3290]]))
    """

    def __init__(self, body: GPT2Model, sites: Sequence[Site], *, shape: bool = False) -> None:
        self._body, self._sites, self._shape = body, sites, shape
        self._readings: list[Reading] = []
        makes = {site: functools.partial(self._reader, site, last=site == sites[-1]) for site in sites}
        self._stand_in = _stand_in(body, makes)

    def read(self, batch: Batch) -> list[Reading]:
        """Run one batch as far as the last wanted site and return the readings, one for each site in forward order.

        Raises:
            UsageError: the body did not run one of the sites.
        """
        self._readings = []
        _run(self._stand_in, batch)
        readings, self._readings = self._readings, []
        _check_ran(self._body, self._sites, [reading.site for reading in readings])
        return readings

    def read_exactly(self, batch: Batch, tokens: Mapping[Site, Tensor]) -> dict[Site, Exact]:
        """Run one batch again and take some tokens' statistics from x itself.

        Args:
            batch: the batch.
            tokens: of each site where there are any, int64 indices into (sequences x tokens).
        """
        found: dict[Site, Exact] = {}
        # Before the pass: nothing is to be waited for in it.
        wanted = {site: chosen.to(self._body.device) for site, chosen in tokens.items()}
        last = [site for site in self._sites if site in tokens][-1]

        def make(site: Site, module: nn.Module) -> Forward:
            def forward(x: Tensor) -> Tensor:
                found[site] = _exact(x.flatten(0, 1).index_select(0, wanted[site]))
                if site == last:
                    raise _EndForward
                y: Tensor = module(x)
                return y

            return forward

        _run(_stand_in(self._body, {site: functools.partial(make, site) for site in tokens}), batch)
        return found

    def _reader(self, site: Site, module: nn.Module, *, last: bool) -> Forward:
        norm = _own_layer_norm(site, module)
        features, eps = list(norm.normalized_shape), norm.eps
        weight: Tensor | None = norm.weight
        bias: Tensor | None = norm.bias
        # Nothing but the output of ln_f comes after it.
        end = last and site.layer is not None

        def forward(x: Tensor) -> Tensor:
            gain, shift = weight, bias
            if x.device.type == "cpu" and x.dtype != torch.float32 and x.dtype != torch.float64:
                # In half precision the CPU kernel rounds the statistics to the type of the parameters; float32
                # parameters give float32 statistics and the same output.
                gain = gain.float() if gain is not None else None
                shift = shift.float() if shift is not None else None
            y, mean, rstd = torch.native_layer_norm(x, features, gain, shift, eps)
            shape = _shape(x, mean, rstd) if self._shape else None
            mean, rstd = mean.squeeze(-1), rstd.squeeze(-1)
            post_norm = torch.linalg.vector_norm(y, dim=-1, dtype=rstd.dtype)
            self._readings.append(Reading(site, eps, mean, rstd, post_norm, shape))
            if end:
                raise _EndForward
            return y

        return forward


def watch(
    body: GPT2Model,
    batch: Batch,
    sites: Sequence[Site],
    see: Callable[[Site, Tensor, Tensor], None],
    replace: Mapping[Site, Forward] | None = None,
) -> Tensor:
    """Run one batch and show what enters and leaves some LayerNorms, which may be anything that maps x to y.

    Args:
        body: the model.
        batch: the batch.
        sites: the sites to see, in forward order.
        see: called at each of them with the site, x and y; whatever hooks the module has, y is what comes after them.
        replace: what is computed at some sites, these or others, in the place of their modules.

    Returns:
        The last hidden state, (sequences, tokens, features).

    Raises:
        UsageError: the body is compiled, or did not run one of the sites.
    """
    replace = replace or {}
    seen: list[Site] = []

    def make(site: Site, module: nn.Module) -> Forward:
        compute = replace.get(site, module)

        def forward(x: Tensor) -> Tensor:
            y = compute(x)
            seen.append(site)
            if site in sites:
                see(site, x, y)
            return y

        return forward

    wanted = list(dict.fromkeys([*sites, *replace]))
    hidden = _run(_stand_in(body, {site: functools.partial(make, site) for site in wanted}), batch)
    _check_ran(body, wanted, seen)
    assert hidden is not None  # nothing ended the pass
    return hidden


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Compute in inference mode and in the tensors' own types, whatever autocast the caller has on."""
    available = torch.amp.is_autocast_available(device.type)
    own_types = torch.autocast(device.type, enabled=False) if available else contextlib.nullcontext()
    with torch.inference_mode(), own_types:
        yield


class _EndForward(Exception):  # noqa: N818  (not an error)
    """Ends a forward pass after the last wanted site; it never leaves this module."""


def _run(stand_in: GPT2Model, batch: Batch) -> Tensor | None:
    """The last hidden state; None where a site ended the pass."""
    device = stand_in.device
    ids, mask, positions = batch.ids.to(device), _attention_mask(stand_in, batch), batch.positions.to(device)
    with undisturbed(device), contextlib.suppress(_EndForward):
        hidden: Tensor = stand_in(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            # Whatever the configuration says: for these transformers installs hooks.
            output_attentions=False,
            output_hidden_states=False,
            return_dict=True,
        ).last_hidden_state
        return hidden
    return None


def _attention_mask(body: GPT2Model, batch: Batch) -> Tensor:
    """The mask that transformers turns into its own, or one that it takes as it is.

    Of a mask with two dimensions transformers reads from the device whether it is all 1, once a pass, to leave the mask
    out. On a CPU that costs nothing, and a mask with four dimensions 7 to 11% of a pass of 1,024 tokens (GPT-2 small).
    On any other device it would stall the queue.
    """
    if body.device.type == "cpu" or body.config._attn_implementation != "sdpa" or batch.left:
        return batch.mask.to(body.device)
    # No token attends to a later position, and so none to padding on the right.
    length = batch.ids.shape[1]
    return torch.ones((1, 1, length, length), dtype=torch.bool, device=body.device).tril()


def _stand_in(body: GPT2Model, makes: Mapping[Site, Callable[[nn.Module], Forward]]) -> GPT2Model:
    """The body in evaluation mode, with other functions in the places of some LayerNorms.

    Args:
        body: the model, which is left alone.
        makes: for each of the sites, from its module, in evaluation mode, to what is to stand there.

    Raises:
        UsageError: the body has no such site, is compiled, or hides it behind a forward that can't be followed.
    """
    by_name = {site.name: make for site, make in makes.items()}
    stand_in: GPT2Model = _copied(body, "", by_name)  # type: ignore[assignment]
    if by_name:
        raise UsageError(f"this {_class(body)} has no LayerNorm {', '.join(by_name)}: it is not a GPT-2's body.")
    return stand_in


def _copied(module: nn.Module, name: str, makes: dict[str, Callable[[nn.Module], Forward]]) -> nn.Module:
    """A copy in evaluation mode, or the module itself where nothing in it would differ; takes what it used of makes."""
    if getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule":
        raise UsageError(
            f"{name or 'the model'} is compiled (torch.compile), which leaves its LayerNorms no kernel of their own; "
            "give the model as it was before."
        )
    make = makes.pop(name, None)
    changed: dict[str, nn.Module | None] = {}
    prefix = f"{name}." if name else ""
    for child_name, child in module._modules.items():
        if child is not None:
            copy = _copied(child, prefix + child_name, makes)
            if copy is not child:
                changed[child_name] = copy
    own = module.__dict__.get("forward")
    # Evaluation makes no difference to what normalizes: a function put there is left as it is.
    normalizes = make is not None or isinstance(module, nn.LayerNorm)
    if changed or (module.training and not (own is not None and normalizes)):
        module = _copy(module, training=False, _modules={**module._modules, **changed})
        if own is not None:
            module.__dict__["forward"] = _bound_again(own, module, name)
    if make is None:
        return module
    # Hooks are the module's, which `make` may call, and not of what takes its place.
    return _copy(module, forward=make(module), _forward_hooks={}, _forward_pre_hooks={})


def _copy(module: nn.Module, **different: object) -> nn.Module:
    copy = object.__new__(type(module))
    copy.__dict__ = {**module.__dict__, **different}
    return copy


def _bound_again(forward: Callable[..., object], copy: nn.Module, name: str) -> Callable[..., object]:
    """A forward that was put into one module, as that of its copy."""
    original = getattr(forward, "__self__", None)
    if isinstance(forward, types.MethodType) and type(original) is type(copy):
        return types.MethodType(forward.__func__, copy)
    raise UsageError(
        f"{name or 'the model'} ({_class(copy)}) has another function as its forward, which would run LayerNorms or "
        "dropout that can't be followed; make it a method of the class, or call model.eval() where there is no "
        "LayerNorm in it."
    )


def _own_layer_norm(site: Site, module: nn.Module) -> nn.LayerNorm:
    """The module, where all that it does is to call the kernel.

    Raises:
        UsageError: it does something else, or more.
    """
    why = None
    if not isinstance(module, nn.LayerNorm):
        why = "it is no nn.LayerNorm"
    elif type(module).forward is not nn.LayerNorm.forward or type(module).__call__ is not nn.Module.__call__:
        why = "its class has a forward of its own"
    elif "forward" in module.__dict__:
        why = "its forward was replaced"
    elif module._forward_hooks or nn.modules.module._global_forward_hooks:
        why = "it has forward hooks, which can change what the kernel returned"
    elif len(module.normalized_shape) != 1:
        why = f"it normalizes over {len(module.normalized_shape)} dimensions"
    if why is not None:
        raise UsageError(
            f"{site.name} ({_class(module)}) can't be read: {why}, and the statistics are those of nn.LayerNorm's own "
            "kernel; put a plain nn.LayerNorm there, or use verify, compare or ablate, which take any module."
        )
    assert isinstance(module, nn.LayerNorm)
    return module


def _check_ran(body: nn.Module, wanted: Sequence[Site], ran: Sequence[Site]) -> None:
    missing = [site.name for site in wanted if site not in ran]
    if missing:
        raise UsageError(f"this {_class(body)} has {', '.join(missing)} and does not run it: there is nothing to see.")


def _class(module: nn.Module) -> str:
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"


def _shape(x: Tensor, mean: Tensor, rstd: Tensor) -> Shape:
    # amin and amax, since torch.aminmax is some twenty times slower; a norm, since x ** 4 would be many times dearer.
    squares = (x - mean).mul_(rstd).square_()
    return Shape(lowest=x.amin(-1), highest=x.amax(-1), square_norm=torch.linalg.vector_norm(squares, dim=-1))


def _exact(x: Tensor) -> Exact:
    # mps has no float64; there alone a pass waits for the device.
    wide = (x.cpu() if x.device.type == "mps" else x).double()
    variance, mean = torch.var_mean(wide, dim=-1, correction=0, keepdim=True)
    squares = (wide - mean).div_(variance.sqrt()).square_()
    return Exact(mean.squeeze(-1), variance.squeeze(-1), torch.linalg.vector_norm(squares, dim=-1))
