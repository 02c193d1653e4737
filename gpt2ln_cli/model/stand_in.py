"""A model whose LayerNorms are something else, beside the model itself, which is left alone.

A *stand-in* is made of copies of the modules that lead to the wanted sites, with the model's own parameters, buffers,
hooks and code, in which other functions take the LayerNorms' places. So there is nothing to lock, to undo or to leave
behind: other threads, the user's own forward passes beside it, training flags and whatever is raised inside never meet.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from transformers import GPT2Model

# A LayerNorm's, which takes x and gives y; an attention takes and gives more.
Forward = Callable[..., Any]
Make = Callable[[nn.Module], Forward]


def stand_in(body: GPT2Model, makes: Mapping[Site, Make] | Mapping[str, Make]) -> GPT2Model:
    """The body in evaluation mode, with other functions in the places of some LayerNorms, or of any modules.

    Args:
        body: the model, which is left alone.
        makes: for each of the sites, or names of modules, from its module, in evaluation mode, to what is to stand
            there.

    Raises:
        UsageError: the body has no such site, is compiled, or hides it behind a forward that can't be followed.
    """
    by_name = {place if isinstance(place, str) else place.name: make for place, make in makes.items()}
    made: GPT2Model = _copied(body, "", by_name)  # type: ignore[assignment]
    if by_name:
        raise UsageError(f"this {class_of(body)} has no {', '.join(by_name)}: it is not a GPT-2's body.")
    return made


def _copied(module: nn.Module, name: str, makes: dict[str, Make]) -> nn.Module:
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
        f"{name or 'the model'} ({class_of(copy)}) has another function as its forward, which would run LayerNorms or "
        "dropout that can't be followed; make it a method of the class, or call model.eval() where there is no "
        "LayerNorm in it."
    )


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Compute in inference mode and in the tensors' own types, whatever autocast the caller has on."""
    available = torch.amp.is_autocast_available(device.type)
    own_types = torch.autocast(device.type, enabled=False) if available else contextlib.nullcontext()
    with torch.inference_mode(), own_types:
        yield


class EndForward(Exception):  # noqa: N818  (not an error)
    """Ends a forward pass after the last wanted site; it never leaves :func:`run`."""


def run(body: GPT2Model, batch: Batch) -> Tensor | None:
    """Run a stand-in: the last hidden state; None where a site ended the pass."""
    device = body.device
    ids, mask, positions = batch.ids.to(device), _attention_mask(body, batch), batch.positions.to(device)
    with undisturbed(device), contextlib.suppress(EndForward):
        hidden: Tensor = body(
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


def class_of(module: nn.Module) -> str:
    """A module's class by its full name."""
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"
