"""What the command line does, as functions that return records."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from gpt2ln_cli import counting
from gpt2ln_cli.checkpoint import DEFAULT_MODEL, locate
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.quantities import POSITION, SORT_KEYS
from gpt2ln_cli.records import Arithmetic, Inspection, Models, Parameters, strict
from gpt2ln_cli.sites import parse_layers, select_sites

if TYPE_CHECKING:
    from gpt2ln_cli.inspection import Run
    from gpt2ln_cli.model import Device, Dtype, LoadedModel
    from gpt2ln_cli.prompts import Overflow
    from gpt2ln_cli.statistics import Progress

Prompts = str | Sequence[str | Sequence[int]]
Layers = int | str | Sequence[int | str]

RecordT = TypeVar("RecordT", Inspection, Parameters)


@dataclass(frozen=True)
class _Which:
    """Which model a run is of, and how it is to be loaded."""

    model: str | Path | LoadedModel
    revision: str | None
    heads: int | None
    device: Device
    dtype: Dtype


def inspect(
    prompts: Prompts | None = None,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    per_token: bool = False,
    bos: bool = False,
    overflow: Overflow = "error",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Run prompts and summarize what every LayerNorm computed; ``gpt2ln inspect``.

    Args:
        prompts: texts, or token ids; a single string is one prompt, None is the bundled sample.
        model: a bundled name, a folder, a file, a Hub id, or what :func:`gpt2ln_cli.load` returned; how that is loaded
            was settled there.
        revision: branch, tag or commit of a Hub id.
        heads: attention heads, for a file that does not tell.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; ``auto`` is the first of cuda, mps and cpu that is there.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``; ``auto`` is the type the weights are stored in.
        layers: a layer from 0, ``"final"`` for ln_f, several of them, or a text such as ``"0-3,11"``; None for all.
        sites: of ``ln_1``, ``ln_2`` and ``ln_f``; None for all.
        per_token: also one row for each site, sequence and token.
        bos: begin every sequence with ``<|endoftext|>``.
        overflow: what becomes of a prompt longer than the context: ``error``, ``truncate`` or ``window``.
        batch_size: most sequences in a forward pass; None lets their lengths decide.
        progress: called with (tokens done, tokens in all) after every forward pass.

    Raises:
        UsageError: no such layer or site, or a batch size below 1.
        CheckpointError: the checkpoint can't be found, read or trusted.
        PromptError: a prompt can't be used.
    """
    run = _run(
        prompts,
        _Which(model, revision, heads, device, dtype),
        layers,
        sites,
        per_token,
        bos,
        overflow,
        batch_size,
        progress,
    )
    return _strict(run.record("inspect", run.rows() if per_token else None))


def stats(
    prompts: Prompts | None = None,
    *,
    layers: Layers,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    sites: Collection[str] | None = None,
    sort: str = POSITION,
    top: int | None = None,
    bos: bool = False,
    overflow: Overflow = "error",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Run prompts up to a layer and list every token's statistics there; ``gpt2ln stats``.

    Args:
        prompts: as for :func:`inspect`.
        layers: as for :func:`inspect`. The forward pass stops after the last wanted site.
        model: as for :func:`inspect`.
        revision: as for :func:`inspect`.
        heads: as for :func:`inspect`.
        device: as for :func:`inspect`.
        dtype: as for :func:`inspect`.
        sites: as for :func:`inspect`.
        sort: the quantity to order each site's rows by, greatest first; ``position`` keeps the text's order.
        top: how many rows of each site to keep; None keeps all.
        bos: as for :func:`inspect`.
        overflow: as for :func:`inspect`.
        batch_size: as for :func:`inspect`.
        progress: as for :func:`inspect`.

    Raises:
        UsageError: no such layer, site or quantity, or a batch size or ``top`` below 1.
        CheckpointError: as for :func:`inspect`.
        PromptError: as for :func:`inspect`.
    """
    if sort not in SORT_KEYS:
        raise UsageError(f"can't sort by '{sort}': it is none of {', '.join(SORT_KEYS)}.")
    _check_top(top)
    run = _run(
        prompts, _Which(model, revision, heads, device, dtype), layers, sites, True, bos, overflow, batch_size, progress
    )
    return _strict(run.record("stats", run.rows(sort=sort, top=top)))


def params(
    *,
    model: str | Path = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    top: int | None = None,
) -> Parameters:
    """Summarize learned gains and biases, without torch and without a forward pass; ``gpt2ln params``.

    Args:
        model: a bundled name, a folder, a file, or a Hub id.
        revision: branch, tag or commit of a Hub id.
        heads: attention heads, for a file that does not tell.
        layers: as for :func:`inspect`.
        sites: as for :func:`inspect`.
        top: how many of each vector's features to list, those farthest from 1 (gain) and 0 (bias).

    Raises:
        UsageError: no such layer or site, or ``top`` below 1.
        CheckpointError: the checkpoint can't be found, read or trusted.
    """
    from gpt2ln_cli.flags import eps_flags, parameter_flags
    from gpt2ln_cli.parameters import describe, judge

    _check_top(top)
    checkpoint = locate(str(model), revision, heads=heads)
    chosen = select_sites(checkpoint.config.n_layer, _layer_list(layers), sites)
    vectors = checkpoint.layer_norms()
    described = [describe(site, vectors[site.name], top=top) for site in chosen]
    info = checkpoint.info(dtype=checkpoint.stored_dtype(), device=None)
    flags = [*parameter_flags(vectors), *eps_flags(checkpoint.config.layer_norm_epsilon)]
    return _strict(Parameters(model=info, sites=described, verdict=judge(described), warnings=flags))


def count(
    *,
    tokens: int = 1024,
    batch: int = 1,
    layers: int = 12,
    width: int = 768,
    heads: int = 12,
    model: str | Path | None = None,
    revision: str | None = None,
) -> Arithmetic:
    """Count statistics by arithmetic alone, for GPT-2 and for the rival readings of it; ``gpt2ln count``.

    Args:
        tokens: tokens of each context.
        batch: contexts in the minibatch.
        layers: transformer blocks.
        width: features of the residual stream.
        heads: attention heads.
        model: a checkpoint whose layers, width and heads take the place of these three.
        revision: branch, tag or commit of a Hub id.

    Raises:
        UsageError: a number is below 1, the width is no multiple of the heads, or a count needs more than 64 bits.
        CheckpointError: the checkpoint can't be found, or its configuration can't be used.
    """
    if model is None:
        return counting.arithmetic(tokens=tokens, batch=batch, layers=layers, width=width, heads=heads)
    config = locate(str(model), revision).config
    if tokens > config.n_positions:
        raise UsageError(f"{tokens} tokens: the context of '{model}' has {config.n_positions}.")
    return counting.arithmetic(
        tokens=tokens, batch=batch, layers=config.n_layer, width=config.n_embd, heads=config.n_head, model=str(model)
    )


def models() -> Models:
    """List the checkpoints that can be used without a download; ``gpt2ln models``.

    These are the bundled one and, in the Hugging Face cache, every GPT-2 whose configuration and weights are whole.
    What else lies in the cache, damaged entries included, is passed over.

    Raises:
        CheckpointError: the bundled checkpoint is missing or damaged.
    """
    from gpt2ln_cli import catalogue

    return catalogue.models()


def _check_top(top: int | None) -> None:
    if top is not None and top < 1:
        raise UsageError(f"top {top}: it must be 1 or more.")


def _layer_list(layers: Layers | None) -> Sequence[int | str] | None:
    if isinstance(layers, str):
        return parse_layers(layers)
    return [layers] if isinstance(layers, int) else layers


def _strict(record: RecordT) -> RecordT:
    cleaned, nonfinite = strict(record)
    complete: RecordT = msgspec.structs.replace(cleaned, nonfinite=nonfinite)
    return complete


def _run(
    prompts: Prompts | None,
    which: _Which,
    layers: Layers | None,
    kinds: Collection[str] | None,
    shape: bool,
    bos: bool,
    overflow: Overflow,
    batch_size: int | None,
    progress: Progress | None,
) -> Run:
    from gpt2ln_cli.inspection import run
    from gpt2ln_cli.prompts import sample_prompt

    if prompts is None:
        prompts = sample_prompt()
    model = which.model
    return run(
        [prompts] if isinstance(prompts, str) else prompts,
        model=locate(str(model), which.revision, heads=which.heads) if isinstance(model, (str, Path)) else model,
        device=which.device,
        dtype=which.dtype,
        layers=_layer_list(layers),
        kinds=kinds,
        shape=shape,
        bos=bos,
        overflow=overflow,
        batch_size=batch_size,
        progress=progress,
    )
