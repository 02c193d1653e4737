"""Train a miniature GPT-2 from scratch on a folder of text files.

This is the script that made the bundled ``demo`` checkpoint. It needs nothing beyond the package's own dependencies and
runs on a CPU::

    python -m gpt2ln_cli.bundled.train CORPUS --output FOLDER

``CORPUS`` is a folder with ``*.txt`` or ``*.txt.xz`` files. Files whose name starts with ``valid`` are held out; where
there is none, the last twentieth of the text is. Works inside one file may be separated by ``<|endoftext|>``.

The state of the run is kept in ``FOLDER/.training`` every few hundred steps, and a run that finds one there goes on
from it. The finished folder holds ``model.safetensors``, ``config.json``, the tokenizer's files and ``training.json``,
the record of the run that the model card quotes.
"""

from __future__ import annotations

import json
import lzma
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F  # noqa: N812
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

SEPARATOR = "<|endoftext|>"
SAVE_EVERY = 500  # steps
MICRO_BATCH_TOKENS = 1024  # one forward's worth: its temporaries stay in the cache of a desktop processor


@dataclass(frozen=True)
class Recipe:
    """What determines the result: shape, data order and optimizer."""

    vocab_size: int
    n_embd: int
    n_layer: int
    n_head: int
    n_positions: int
    context: int
    full_context_every: int
    tokens_per_step: int
    steps: int
    warmup_steps: int
    learning_rate: float
    weight_decay: float
    seed: int


def read_corpus(folder: Path) -> tuple[list[str], list[str]]:
    """Return the works to train on and the works held out.

    Raises:
        click.UsageError: the folder holds no text file.
    """
    train: list[str] = []
    valid: list[str] = []
    for path in sorted([*folder.glob("*.txt"), *folder.glob("*.txt.xz")]):
        raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        works = [work for work in raw.decode("utf-8").split(SEPARATOR) if work.strip()]
        (valid if path.name.startswith("valid") else train).extend(works)
    if not train:
        raise click.UsageError(f"no training text in {folder}: put *.txt or *.txt.xz files there.")
    if not valid:
        text = SEPARATOR.join(train)
        cut = len(text) * 19 // 20
        train, valid = text[:cut].split(SEPARATOR), text[cut:].split(SEPARATOR)
    return train, valid


def train_tokenizer(works: list[str], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE with GPT-2's pre-tokenization; ``<|endoftext|>`` gets the last id, as in GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(works, trainer)
    tokenizer.add_special_tokens([SEPARATOR])
    return tokenizer


def encode(tokenizer: Tokenizer, works: list[str]) -> NDArray[np.uint16]:
    """Token ids of all works in one stream, each work followed by the separator."""
    end = tokenizer.token_to_id(SEPARATOR)
    return np.concatenate([np.array([*tokenizer.encode(work).ids, end], dtype=np.uint16) for work in works])


def unigram_loss(train: NDArray[np.uint16], valid: NDArray[np.uint16], vocab_size: int) -> float:
    """Cross-entropy (nats per token) of the add-one-smoothed unigram model of ``train`` on ``valid``."""
    counts = np.bincount(train, minlength=vocab_size).astype(np.float64) + 1.0
    return float(-np.log(counts / counts.sum())[valid].mean())


@torch.inference_mode()
def validation_loss(model: GPT2LMHeadModel, stream: NDArray[np.uint16], windows: int | None = None) -> float:
    """Mean cross-entropy (nats per token) over consecutive, non-overlapping windows of the full context."""
    size = model.config.n_positions
    total, count = 0.0, 0
    starts = list(range(0, len(stream) - 1, size))
    if windows is not None:
        starts = starts[:: max(1, len(starts) // windows)]
    model.train(False)
    for start in starts:
        ids = torch.from_numpy(stream[start : start + size + 1].astype(np.int64))
        logits = model(ids[None, :-1]).logits[0]
        total += float(F.cross_entropy(logits, ids[1:], reduction="sum"))
        count += len(ids) - 1
    model.train()
    return total / count


def batches(stream: NDArray[np.uint16], recipe: Recipe, first_step: int) -> Iterator[torch.Tensor]:
    """Yield (sequences, length + 1) windows at random offsets, each step seeded by its own number."""
    for step in range(first_step, recipe.steps):
        full = step % recipe.full_context_every == recipe.full_context_every - 1
        length = recipe.n_positions if full else recipe.context
        offsets = np.random.default_rng((recipe.seed, step)).integers(
            0, len(stream) - length - 1, size=recipe.tokens_per_step // length
        )
        yield torch.from_numpy(np.stack([stream[o : o + length + 1] for o in offsets]).astype(np.int64))


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then linear to zero."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    left = (recipe.steps - step) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * min(warm, left)


def make_optimizer(model: GPT2LMHeadModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; matrices and embeddings decay, biases and every LayerNorm parameter do not."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


def train(recipe: Recipe, stream: NDArray[np.uint16], valid: NDArray[np.uint16], state_file: Path) -> GPT2LMHeadModel:
    """Run the recipe from the last saved state, or from the start, and return the trained model."""
    torch.manual_seed(recipe.seed)
    end = recipe.vocab_size - 1
    config = GPT2Config(
        vocab_size=recipe.vocab_size,
        n_positions=recipe.n_positions,
        n_embd=recipe.n_embd,
        n_layer=recipe.n_layer,
        n_head=recipe.n_head,
        bos_token_id=end,
        eos_token_id=end,
        # Less than one pass over the data: dropout would only slow learning.
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config)
    optimizer = make_optimizer(model, recipe)
    step = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        click.echo(f"going on from step {step}", err=True)

    def save() -> None:
        partial = state_file.with_suffix(".partial")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, partial)
        partial.replace(state_file)

    model.train()
    began, recent = time.monotonic(), []
    for window in batches(stream, recipe, step):
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step - 1)
        parts = torch.split(window, max(1, MICRO_BATCH_TOKENS // (window.shape[1] - 1)))
        loss_sum = 0.0
        for part in parts:
            logits = model(part[:, :-1], use_cache=False).logits
            loss = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten()) * (len(part) / len(window))
            loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent.append(loss_sum)
        if step % 50 == 0:
            rate = len(recent) * recipe.tokens_per_step / (time.monotonic() - began)
            click.echo(f"step {step}  loss {np.mean(recent):.4f}  {rate:.0f} tokens/s", err=True)
            began, recent = time.monotonic(), []
        if step % SAVE_EVERY == 0:
            save()
            click.echo(f"step {step}  validation {validation_loss(model, valid, windows=20):.4f}", err=True)
    save()
    return model


@click.command(help=__doc__.split("\n")[0], context_settings={"show_default": True})
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write.")
@click.option("--vocab-size", default=8192, help="Entries of the byte-level BPE, <|endoftext|> included.")
@click.option("--width", default=96, help="Features of the residual stream.")
@click.option("--layers", default=12, help="Transformer blocks.")
@click.option("--heads", default=12, help="Attention heads.")
@click.option("--positions", default=1024, help="Longest context.")
@click.option("--context", default=256, help="Context of most training steps.")
@click.option("--full-context-every", default=8, help="One step in so many uses the longest context.")
@click.option("--tokens-per-step", default=2048, help="Tokens of one optimizer step.")
@click.option("--steps", default=6800, help="Optimizer steps.")
@click.option("--learning-rate", default=4e-3, help="Peak learning rate of AdamW.")
@click.option("--seed", default=0, help="Seed of the initial weights and of the data order.")
def main(
    corpus: Path,
    output: Path,
    vocab_size: int,
    width: int,
    layers: int,
    heads: int,
    positions: int,
    context: int,
    full_context_every: int,
    tokens_per_step: int,
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train and write the folder; the options are the recipe."""
    work = output / ".training"
    work.mkdir(parents=True, exist_ok=True)
    tokenizer_file, tokens_file = work / "tokenizer.json", work / "tokens.npz"
    if tokens_file.exists():
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    else:
        train_works, valid_works = read_corpus(corpus)
        tokenizer = train_tokenizer(train_works, vocab_size)
        tokenizer.save(str(tokenizer_file))
        np.savez(tokens_file, train=encode(tokenizer, train_works), valid=encode(tokenizer, valid_works))
    recipe = Recipe(
        vocab_size=tokenizer.get_vocab_size(),  # a small corpus may yield fewer than asked for,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_positions=positions,
        context=context,
        full_context_every=full_context_every,
        tokens_per_step=tokens_per_step,
        steps=steps,
        warmup_steps=min(200, math.ceil(steps / 10)),
        learning_rate=learning_rate,
        weight_decay=0.1,
        seed=seed,
    )
    with np.load(tokens_file) as tokens:
        stream, valid = tokens["train"], tokens["valid"]
    baseline = unigram_loss(stream, valid, recipe.vocab_size)
    click.echo(f"{len(stream):,} tokens to train on, {len(valid):,} held out; unigram {baseline:.4f} nats", err=True)

    model = train(recipe, stream, valid, work / "state.pt")
    model.save_pretrained(output)
    fast = GPT2Tokenizer(
        tokenizer_object=tokenizer,
        bos_token=SEPARATOR,
        eos_token=SEPARATOR,
        unk_token=SEPARATOR,
        model_max_length=positions,
    )
    fast.save_pretrained(output)
    record = {
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_tokens": len(stream),
        "seen_tokens": steps * tokens_per_step,
        "validation_tokens": len(valid),
        "validation_loss": validation_loss(model, valid),
        "unigram_loss": baseline,
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
    }
    (output / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
