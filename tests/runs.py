"""Training runs in miniature, kept at a few steps, for the tests of ``track``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

SHAPE = {"vocab_size": 61, "n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 3}
LEARNING_RATE = 3e-2
SEQUENCES, TOKENS = 4, 16


def train(folder: Path, steps: Sequence[int], **shape: int) -> list[Path]:
    """Train a tiny GPT-2 from scratch on sequences that count, and keep it at each of the steps."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = GPT2LMHeadModel(GPT2Config(**{**SHAPE, **shape}, bos_token_id=60, eos_token_id=60))
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        kept = []
        for step in range(max(steps) + 1):
            if step in steps:
                kept.append(folder / f"checkpoint-{step}")
                model.eval().save_pretrained(kept[-1])
            ids = (torch.randint(60, (SEQUENCES, 1)) + torch.arange(TOKENS)) % 60
            model.train()
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return kept


def nameless(folder: Path, name: str, step: int) -> Path:
    """Call a checkpoint something that tells no step, and let the trainer's state tell it."""
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return folder.rename(folder.parent / name)
