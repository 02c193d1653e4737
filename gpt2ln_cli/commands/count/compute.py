"""How many statistics each axis that LayerNorm could have would take: arithmetic, without weights."""

from __future__ import annotations

from pathlib import Path

from gpt2ln_cli.arguments import refuse_without_effect, whole_number
from gpt2ln_cli.commands.count.record import HEADS, LAYERS, WIDTH, Arithmetic, AxisCount
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.measure.axes import Axis, statistics
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.paths import path_text


def count(
    *,
    tokens: int = 1024,
    batch: int = 1,
    layers: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    model: str | Path | Model | None = None,
) -> Arithmetic:
    """Count statistics by arithmetic alone, for GPT-2 and for the rival axes; ``gpt2ln count``.

    Args:
        tokens: tokens of each context.
        batch: contexts in the minibatch.
        layers: transformer blocks; None, as for the next two, is GPT-2 small's.
        width: features of the residual stream.
        heads: attention heads.
        model: a checkpoint that brings its own layers, width and heads.

    Raises:
        UsageError: a number is below 1, the width is no multiple of the heads, a count needs more than 64 bits, or a
            shape is given beside a model.
        CheckpointError: the checkpoint can't be found, or its configuration can't be used.
    """
    if model is None:
        return arithmetic(
            tokens=tokens,
            batch=batch,
            layers=LAYERS if layers is None else layers,
            width=WIDTH if width is None else width,
            heads=HEADS if heads is None else heads,
        )
    refuse_without_effect(
        "on a model, which brings its own shape", layers=(layers, None), width=(width, None), heads=(heads, None)
    )
    tokens = whole_number("tokens", tokens, least=1)
    checkpoint = as_model(model).checkpoint
    config, name = checkpoint.config, path_text(checkpoint.name)
    if tokens > config.n_positions:
        raise UsageError(f"{tokens} tokens: the context of '{name}' has {config.n_positions}.")
    return arithmetic(
        tokens=tokens, batch=batch, layers=config.n_layer, width=config.n_embd, heads=config.n_head, model=name
    )


def arithmetic(*, tokens: int, batch: int, layers: int, width: int, heads: int, model: str | None = None) -> Arithmetic:
    """Count the (mean, standard deviation) pairs of a minibatch of ``batch`` contexts of ``tokens`` tokens.

    GPT-2 computes one pair for each token of each context at each of its 2L + 1 LayerNorms (Ba, Kiros and Hinton,
    "Layer Normalization", 2016, equation 3; where they stand: Radford et al., "Language Models are Unsupervised
    Multitask Learners", 2019, section 2.3).

    Raises:
        UsageError: a number is below 1, the width is no multiple of the heads, or a count needs more than 64 bits.
    """
    tokens, batch, layers, width, heads = (
        whole_number(name, value, least=1)
        for name, value in (
            ("tokens", tokens),
            ("batch", batch),
            ("layers", layers),
            ("width", width),
            ("heads", heads),
        )
    )
    if width % heads:
        raise UsageError(f"width {width} is not a multiple of {heads} heads.")
    if batch * tokens * heads * (2 * layers + 1) >= 2**63:
        raise UsageError("the counts would exceed 64-bit integers; use smaller numbers.")
    sites = 2 * layers + 1

    def count(axis: Axis, description: str) -> AxisCount:
        per_site = statistics(axis, tokens=batch * tokens, sequences=batch, features=width, heads=heads)
        return AxisCount(
            name=axis.value,
            description=description,
            is_gpt2=axis is Axis.PER_TOKEN,
            per_site=per_site,
            per_block=2 * per_site,
            total=sites * per_site,
        )

    counted = [
        count(Axis.PER_TOKEN, "each token of each context by itself"),
        count(Axis.FEATURE_OVER_CONTEXT, "each feature of each context by itself"),
        count(Axis.FEATURE_OVER_BATCH, "batch normalization"),
        count(Axis.WHOLE_CONTEXT, "all tokens and features of a context together"),
        count(Axis.WHOLE_BATCH, "all contexts, tokens and features together"),
        count(Axis.PER_HEAD, "each token over one head's features at a time"),
    ]
    own = counted[0]
    return Arithmetic(
        model=model,
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        tokens=tokens,
        batch=batch,
        sites=sites,
        per_site=own.per_site,
        per_block=own.per_block,
        total=own.total,
        features=width,
        readings=counted,
    )
