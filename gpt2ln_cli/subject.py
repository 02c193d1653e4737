"""What a run or an experiment is made on: a loaded model and the contexts to run through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2ln_cli.checkpoint import Checkpoint
from gpt2ln_cli.model import Device, Dtype, LoadedModel, build_body
from gpt2ln_cli.prompts import Context, Overflow, make_contexts, plan_batches, prompt_infos
from gpt2ln_cli.records import PromptInfo


@dataclass(frozen=True)
class Subject:
    """A model in memory, and contexts in its batches."""

    loaded: LoadedModel
    contexts: Sequence[Context]
    batches: Sequence[Sequence[int]]
    """Which contexts to run together."""

    @property
    def prompts(self) -> list[PromptInfo]:
        """The contexts as a record lists them."""
        return prompt_infos(self.contexts, self.loaded.tokenizer)


def prepare(
    prompts: Sequence[str | Sequence[int]],
    *,
    model: Checkpoint | LoadedModel,
    device: Device = "auto",
    dtype: Dtype = "auto",
    bos: bool,
    overflow: Overflow,
    batch_size: int | None,
) -> Subject:
    """Tokenize the prompts, then load the model: what is wrong with the call is found before weights are read.

    Raises:
        UsageError: the device is not there.
        CheckpointError: the weights or the tokenizer can't be used.
        PromptError: a prompt can't be used.
    """
    checkpoint = model.checkpoint if isinstance(model, LoadedModel) else model
    tokenizer = model.tokenizer if isinstance(model, LoadedModel) else checkpoint.tokenizer()
    contexts = make_contexts(prompts, config=checkpoint.config, tokenizer=tokenizer, bos=bos, overflow=overflow)
    batches = plan_batches([len(context.token_ids) for context in contexts], batch_size=batch_size)
    loaded = model if isinstance(model, LoadedModel) else None
    if loaded is None:
        loaded = LoadedModel(checkpoint, build_body(checkpoint, device=device, dtype=dtype), tokenizer)
    return Subject(loaded, contexts, batches)
