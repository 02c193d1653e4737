"""Input and output of every LayerNorm, by ordinary hooks that recompute nothing and assume no kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2ln_cli.model import layer_norm
from gpt2ln_cli.sites import Site

if TYPE_CHECKING:
    from transformers.models.gpt2.modeling_gpt2 import GPT2Model

    from gpt2ln_cli.subject import Subject

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Passage:
    """What went into one LayerNorm and what came out, in one forward pass; padding is left out."""

    site: Site
    x: Floats
    """(tokens, features), the tokens of all sequences in order."""
    y: Floats
    """(tokens, features)."""


@dataclass(frozen=True)
class Batch:
    """Sequences padded to one length, the padding on the right unless told otherwise."""

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Batch:
        """Pad on the right; positions count from 0."""
        longest = max(map(len, sequences))
        ids = torch.tensor([[*sequence, *[0] * (longest - len(sequence))] for sequence in sequences])
        mask = torch.tensor([[1] * len(sequence) + [0] * (longest - len(sequence)) for sequence in sequences])
        return cls(ids, mask, torch.arange(longest).expand_as(ids))

    @classmethod
    def left_padded(cls, sequences: Sequence[Sequence[int]]) -> Batch:
        """Pad on the left and let positions count from the padding on, which is wrong for GPT-2."""
        longest = max(map(len, sequences))
        ids = torch.tensor([[*[0] * (longest - len(sequence)), *sequence] for sequence in sequences])
        mask = torch.tensor([[0] * (longest - len(sequence)) + [1] * len(sequence) for sequence in sequences])
        return cls(ids, mask, torch.arange(longest).expand_as(ids))


def passes(subject: Subject) -> Iterator[tuple[Batch, list[tuple[int, list[int]]]]]:
    """Each batch of the subject, with the number and the token ids of its contexts in the order of its rows."""
    for numbers in subject.batches:
        rows = [(number, subject.contexts[number].token_ids) for number in numbers]
        yield Batch.of([ids for _, ids in rows]), rows


def trace(body: GPT2Model, batch: Batch, sites: Sequence[Site], see: Callable[[Passage], None]) -> torch.Tensor:
    """Run the batch and show each site's passage as it happens, so that none needs to be kept.

    Args:
        body: the model; its LayerNorm modules may be anything that maps x to y.
        batch: the sequences.
        sites: the sites to show, in forward order.
        see: called once for each site.

    Returns:
        The last hidden state, (sequences, tokens, features).
    """
    real = batch.mask.bool()

    def hook(site: Site) -> Callable[..., None]:
        def show(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            see(Passage(site, _float64(inputs[0][real]), _float64(output[real])))

        return show

    with contextlib.ExitStack() as stack, torch.inference_mode():
        for site in sites:
            stack.enter_context(_removed(layer_norm(body, site).register_forward_hook(hook(site))))
        output: torch.Tensor = body(
            input_ids=batch.ids.to(body.device),
            attention_mask=batch.mask.to(body.device),
            position_ids=batch.positions.to(body.device),
            use_cache=False,
        ).last_hidden_state
    return output


def vector(module: torch.nn.Module, name: Literal["weight", "bias"]) -> Floats | None:
    """A LayerNorm's gain (``weight``) or bias, (features,); None where it has none."""
    parameter = getattr(module, name, None)
    return None if parameter is None else _float64(parameter.detach())


@contextlib.contextmanager
def _removed(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _float64(tensor: torch.Tensor) -> Floats:
    values: Floats = tensor.double().cpu().numpy()
    return values
