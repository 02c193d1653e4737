"""What a run or an experiment is made on: a loaded model and the contexts to run through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gpt2ln_cli.checkpoint import Checkpoint
from gpt2ln_cli.model import Device, Dtype, LoadedModel, build_body
from gpt2ln_cli.prompts import BATCH_TOKENS, Context, Overflow, check_batches, make_contexts, plan_batches, prompt_infos
from gpt2ln_cli.records import PromptInfo
from gpt2ln_cli.sites import all_sites

if TYPE_CHECKING:
    from transformers import GPT2Model

# On a GPU no more tokens than this, since kernels of attention number the sequences of a batch with 16 bits.
MOST_TOKENS = 65_535
# The share of a GPU's free memory that a pass is planned for; fragments and libraries' workspaces have the rest.
SHARE_OF_MEMORY = 0.5


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
    batch_tokens: int | None = None,
) -> Subject:
    """Tokenize the prompts, then load the model: what is wrong with the call is found before weights are read.

    Raises:
        UsageError: the device is not there, or ``batch_size`` or ``batch_tokens`` is below 1.
        CheckpointError: the weights or the tokenizer can't be used.
        PromptError: a prompt can't be used.
    """
    check_batches(batch_size, batch_tokens)
    checkpoint, tokenizer = (
        (model.checkpoint, model.tokenizer) if isinstance(model, LoadedModel) else model.with_tokenizer()
    )
    contexts = make_contexts(prompts, config=checkpoint.config, tokenizer=tokenizer, bos=bos, overflow=overflow)
    loaded = model if isinstance(model, LoadedModel) else None
    if loaded is None:
        loaded = LoadedModel(checkpoint, build_body(checkpoint, device=device, dtype=dtype), tokenizer)
    batches = plan_batches(
        [len(context.token_ids) for context in contexts],
        batch_size=batch_size,
        batch_tokens=tokens_in_a_pass(loaded.body) if batch_tokens is None else batch_tokens,
    )
    return Subject(loaded, contexts, batches)


def tokens_in_a_pass(body: GPT2Model) -> int:
    """How many tokens to run at a time: ``BATCH_TOKENS`` on a CPU, on a GPU what its free memory takes."""
    device = body.device
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + unused
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        return BATCH_TOKENS
    return max(BATCH_TOKENS, min(MOST_TOKENS, int(SHARE_OF_MEMORY * free / bytes_a_token(body))))


def bytes_a_token(body: GPT2Model) -> int:
    """What a pass that reads every site takes for each token at its height, estimated from the model's shape.

    The height is in an MLP. Measured there (torch's profiler, widths 96 to 1,600): the residual stream, the output of
    ln_2, and five tensors of the inner width inside of ``gelu_new``, together 22 times the width where the inner one is
    4 times that; and six float32 statistics a site, which are then stacked. Where the MLP is small, attention has 8
    times the width.
    """
    config = body.config
    inner = config.n_inner if config.n_inner is not None else 4 * config.n_embd
    numbers = 8 * config.n_embd + 5 * inner
    if body.device.type != "cuda" or config._attn_implementation != "sdpa":
        # Scores, mask added and softmax of a whole context; cuda's kernels keep none of them.
        numbers += 3 * config.n_head * config.n_positions
    return numbers * body.dtype.itemsize + 2 * 6 * 4 * len(all_sites(config.n_layer))
