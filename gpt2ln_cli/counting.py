"""How many statistics each reading of "LayerNorm" would compute: arithmetic, without weights."""

from __future__ import annotations

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.records import Arithmetic, Reading


def arithmetic(*, tokens: int, batch: int, layers: int, width: int, heads: int, model: str | None = None) -> Arithmetic:
    """Count the (mean, standard deviation) pairs of a minibatch of ``batch`` contexts of ``tokens`` tokens.

    GPT-2 computes one pair for each token of each context at each of its 2L + 1 LayerNorms (Ba, Kiros and Hinton,
    "Layer Normalization", 2016, equation 3; where they stand: Radford et al., "Language Models are Unsupervised
    Multitask Learners", 2019, section 2.3).

    Raises:
        UsageError: a number is below 1, the width is no multiple of the heads, or a count needs more than 64 bits.
    """
    for name, value in (("tokens", tokens), ("batch", batch), ("layers", layers), ("width", width), ("heads", heads)):
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be 1 or more.")
    if width % heads:
        raise UsageError(f"width {width} is not a multiple of {heads} heads.")
    if batch * tokens * heads * (2 * layers + 1) >= 2**63:
        raise UsageError("the counts would exceed 64-bit integers; use smaller numbers.")
    sites = 2 * layers + 1

    def reading(name: str, description: str, per_site: int, *, is_gpt2: bool = False) -> Reading:
        return Reading(
            name=name,
            description=description,
            is_gpt2=is_gpt2,
            per_site=per_site,
            per_block=2 * per_site,
            total=sites * per_site,
        )

    readings = [
        reading("per token, over its features", "each token of each context by itself", batch * tokens, is_gpt2=True),
        reading("per feature, over a context's tokens", "each feature of each context by itself", batch * width),
        reading("per feature, over the minibatch", "batch normalization", width),
        reading("per context, everything in it", "all tokens and features of a context together", batch),
        reading("once, over the whole minibatch", "all contexts, tokens and features together", 1),
        reading("per token and head", "each token over one head's features at a time", batch * tokens * heads),
    ]
    own = readings[0]
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
        readings=readings,
    )
