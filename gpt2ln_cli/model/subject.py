"""What a run or an experiment is made on: a loaded model and the contexts to run through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict, runtime_checkable

from typing_extensions import Unpack

from gpt2ln_cli.model import Model
from gpt2ln_cli.model.batch import Batch
from gpt2ln_cli.model.memory import free, make_room
from gpt2ln_cli.records import PromptInfo
from gpt2ln_cli.sites import all_sites
from gpt2ln_cli.text.batches import BATCH_TOKENS, Numbered, check_batches, plan
from gpt2ln_cli.text.contexts import Context, Overflow, make_contexts, prompt_infos

if TYPE_CHECKING:
    from transformers import GPT2Model

Progress = Callable[[int, int], None]
Prompts = str | Sequence[str | Sequence[int]]
Layers = int | str | Sequence[int | str]
# On a GPU no more tokens than this, since kernels of attention number the sequences of a batch with 16 bits.
MOST_TOKENS = 65_535
# The share of a GPU's free memory that a pass is planned for; fragments and libraries' workspaces have the rest.
SHARE_OF_MEMORY = 0.5


@runtime_checkable
class Phased(Protocol):
    """Progress that also takes what is being done."""

    def phase(self, name: str) -> None:
        """From now on this is what is being done."""


def begin(progress: Progress | None, phase: str) -> None:
    """Say what is being done from now on, where somebody is told."""
    if isinstance(progress, Phased):
        progress.phase(phase)


class Running(TypedDict, total=False):
    """How prompts are run, which all functions that run any take alike."""

    bos: bool
    """Begin every sequence with ``<|endoftext|>``; False unless given."""
    overflow: Overflow
    """What becomes of a prompt longer than the context: ``error`` (unless given), ``truncate`` or ``window``."""
    batch_size: int | None
    """Most sequences in a forward pass; None, as unless given, lets their lengths decide."""
    batch_tokens: int | None
    """About how many padded tokens a forward pass has; None, as unless given, lets the device decide."""
    progress: Progress | None
    """Called with (tokens done, tokens in all) after every forward pass, anew in each part of the work; where it has a
    method ``phase``, that is called with what is being done when a part begins."""


@dataclass
class Steps:
    """How far a run has come, in tokens."""

    progress: Progress | None
    total: int
    done: int = 0

    def add(self, tokens: int) -> None:
        """So many more are done."""
        self.done += tokens
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass(frozen=True)
class Subject:
    """A model in memory, and contexts in its batches."""

    model: Model
    contexts: Sequence[Context]
    batches: Sequence[Sequence[int]]
    """Which contexts to run together."""
    bos: bool
    """Whether ``<|endoftext|>`` begins each of them."""
    progress: Progress | None

    def steps(self, runs: int = 1) -> Steps:
        """What counts the tokens of so many runs of all contexts."""
        return Steps(self.progress, runs * sum(len(context.token_ids) for context in self.contexts))

    def in_batches(self) -> Iterator[list[Numbered]]:
        """The contexts of each batch, with their numbers."""
        return ([(number, self.contexts[number]) for number in batch] for batch in self.batches)

    @property
    def prompts(self) -> list[PromptInfo]:
        """The contexts as a record lists them."""
        return prompt_infos(self.contexts, self.model.tokenizer)

    def passes(self) -> Iterator[tuple[Batch, list[Numbered]]]:
        """What the model runs, with the contexts in the order of its rows."""
        return ((Batch.of([context.token_ids for _, context in rows]), rows) for rows in self.in_batches())


def prepare(prompts: Sequence[str | Sequence[int]], model: Model, **running: Unpack[Running]) -> Subject:
    """Tokenize the prompts, then read the weights: what is wrong with the call is found before.

    Raises:
        UsageError: the device is not there, ``batch_size`` or ``batch_tokens`` is below 1, or a pass takes more memory
            than there is.
        CheckpointError: the weights or the tokenizer can't be used.
        PromptError: a prompt can't be used.
    """
    batch_size, batch_tokens = running.get("batch_size"), running.get("batch_tokens")
    check_batches(batch_size, batch_tokens)
    bos, overflow = running.get("bos", False), running.get("overflow", "error")
    # First the tokenizer, which may add to what is inferred of the checkpoint.
    tokenizer = model.tokenizer
    contexts = list(
        make_contexts(prompts, config=model.checkpoint.config, tokenizer=tokenizer, bos=bos, overflow=overflow)
    )
    batches = plan(
        contexts,
        batch_size=batch_size,
        batch_tokens=tokens_in_a_pass(model.lazy_body) if batch_tokens is None else batch_tokens,
    )
    # As a batch is padded, its shorter sequences are no longer than the longest.
    longest = (max(len(contexts[number].token_ids) for number in batch) * len(batch) for batch in batches)
    make_room(model.lazy_body, model.checkpoint, max(longest, default=0))
    return Subject(model, contexts, batches, bos, running.get("progress"))


def tokens_in_a_pass(body: GPT2Model) -> int:
    """How many tokens to run at a time: ``BATCH_TOKENS`` on a CPU, on a GPU what its free memory takes."""
    there = free(body.device) if body.device.type in ("cuda", "mps") else None
    if there is None:
        return BATCH_TOKENS
    return max(BATCH_TOKENS, min(MOST_TOKENS, int(SHARE_OF_MEMORY * there / bytes_a_token(body))))


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
