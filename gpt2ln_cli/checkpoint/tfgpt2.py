"""The names of transformers' GPT-2 in TensorFlow, which its versions before 5 could write."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gpt2ln_cli.checkpoint.tensors import StoredTensor

NAME = re.compile(
    r"(?:(?P<prefix>.+)/)?"
    r"(?:h_\._(?P<layer>\d{1,9})/(?P<inner>ln_1|ln_2|ln_cross_attn|(?:attn|crossattention|mlp)/\w+)|(?P<outer>wte|wpe|ln_f))"
    r"/(?P<part>gamma|beta|weight|bias|embeddings):0"
)
PARTS = {"gamma": "weight", "beta": "bias", "embeddings": "weight"}


def renamed(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """GPT-2's names; tensors of other names keep theirs."""
    found = {}
    for stored, tensor in tensors.items():
        name = NAME.fullmatch(stored)
        if name is None:
            found[stored] = tensor
            continue
        prefix = "" if name["prefix"] is None else name["prefix"].replace("/", ".") + "."
        module = name["outer"] or f"h.{name['layer']}.{name['inner'].replace('/', '.')}"
        # A bias has a first dimension of 1.
        flat = name["part"] == "bias" and tensor.shape[:1] == (1,) and len(tensor.shape) == 2
        found[f"{prefix}{module}.{PARTS.get(name['part'], name['part'])}"] = (
            tensor.reshaped(*tensor.shape[1:]) if flat else tensor
        )
    return found
