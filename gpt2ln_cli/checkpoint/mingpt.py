"""The names of minGPT before 2022, which spelled the same model otherwise; later ones are GPT-2's own."""

from __future__ import annotations

from collections.abc import Mapping

from gpt2ln_cli.checkpoint.tensors import StoredTensor, joined

EMBEDDING = "tok_emb.weight"
NAMES = {
    "ln1": "ln_1",
    "ln2": "ln_2",
    "attn.proj": "attn.c_proj",
    "mlp.0": "mlp.c_fc",
    "mlp.2": "mlp.c_proj",
}
QUERY_KEY_VALUE = ("query", "key", "value")


def renamed(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """GPT-2's names, with query, key and value joined; a file without minGPT's embedding stays as it is."""
    # The longest first: one body's prefix may be the beginning of another's.
    prefixes = sorted((name.removesuffix(EMBEDDING) for name in tensors if name.endswith(EMBEDDING)), key=len)[::-1]
    found: dict[str, StoredTensor] = {}
    for full_name, tensor in tensors.items():
        prefix = next((prefix for prefix in prefixes if full_name.startswith(prefix)), None)
        if prefix is None:
            found[full_name] = tensor
            continue
        name = full_name.removeprefix(prefix)
        if name == EMBEDDING:
            found[f"{prefix}wte.weight"] = tensor
        elif name == "pos_emb":
            found[f"{prefix}wpe.weight"] = tensor.reshaped(*tensor.shape[1:]) if tensor.shape[:1] == (1,) else tensor
        elif name.startswith("blocks."):
            _, layer, *rest = name.split(".")
            module, part = ".".join(rest[:-1]), rest[-1] if rest else ""
            parts = [tensors.get(f"{prefix}blocks.{layer}.attn.{which}.{part}") for which in QUERY_KEY_VALUE]
            whole = [each for each in parts if each is not None and each.shape]
            if module in NAMES:
                found[f"{prefix}h.{layer}.{NAMES[module]}.{part}"] = tensor
            elif module == "attn.query" and len(whole) == len(QUERY_KEY_VALUE):
                found[f"{prefix}h.{layer}.attn.c_attn.{part}"] = joined(whole)
        else:
            found[full_name] = tensor
    return found
