"""How many statistics each reading of "LayerNorm" would compute: arithmetic, without weights."""

from __future__ import annotations

from gpt2ln_cli import readings
from gpt2ln_cli.arguments import whole_number
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.records import Arithmetic, Reading

# GPT-2 small's shape.
LAYERS, WIDTH, HEADS = 12, 768, 12


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

    def count(reading: readings.Reading, description: str) -> Reading:
        per_site = readings.statistics(reading, tokens=batch * tokens, sequences=batch, features=width, heads=heads)
        return Reading(
            name=reading.value,
            description=description,
            is_gpt2=reading is readings.Reading.PER_TOKEN,
            per_site=per_site,
            per_block=2 * per_site,
            total=sites * per_site,
        )

    counted = [
        count(readings.Reading.PER_TOKEN, "each token of each context by itself"),
        count(readings.Reading.FEATURE_OVER_CONTEXT, "each feature of each context by itself"),
        count(readings.Reading.FEATURE_OVER_BATCH, "batch normalization"),
        count(readings.Reading.WHOLE_CONTEXT, "all tokens and features of a context together"),
        count(readings.Reading.WHOLE_BATCH, "all contexts, tokens and features together"),
        count(readings.Reading.PER_HEAD, "each token over one head's features at a time"),
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
