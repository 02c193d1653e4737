"""The Hugging Face folder layout: ``config.json`` beside ``model.safetensors``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from gpt2ln_cli.checkpoint.base import Checkpoint, LayerNormParameters, parse_config
from gpt2ln_cli.checkpoint.tokenizer import read_tokenizer
from gpt2ln_cli.errors import CheckpointError
from gpt2ln_cli.sites import all_sites

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from tokenizers import Tokenizer

WEIGHTS = "model.safetensors"
BODY_PREFIX = "transformer."
DTYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@dataclass(frozen=True)
class HuggingFaceFolder(Checkpoint):
    """A folder as ``save_pretrained`` writes it."""

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether the path is a folder of this layout."""
        return (path / "config.json").is_file()

    @classmethod
    def open(
        cls, path: Path, *, name: str, source: Literal["bundled", "hub", "folder"], revision: str | None = None
    ) -> HuggingFaceFolder:
        """Read the folder's configuration.

        Raises:
            CheckpointError: the configuration can't be used, or there are no weights beside it.
        """
        config, raw = parse_config(path / "config.json")
        if not (path / WEIGHTS).is_file():
            raise CheckpointError(f"{path} has a config.json and no {WEIGHTS} beside it.")
        return cls(name=name, source=source, location=path, revision=revision, config=config, raw_config=raw)

    @override
    def stored_dtype(self) -> str:
        with self._tensors("numpy") as (file, names):
            stored: str = file.get_slice(next(iter(names.values()))).get_dtype()
        return DTYPE_NAMES.get(stored, stored)

    @override
    def layer_norms(self) -> dict[str, LayerNormParameters]:
        import ml_dtypes  # noqa: F401  (gives NumPy, and so safetensors, the bfloat16 type)
        import numpy as np

        found: dict[str, LayerNormParameters] = {}
        with self._tensors("numpy") as (file, names):
            for site in all_sites(self.config.n_layer):
                vectors = []
                for part in ("weight", "bias"):
                    name = f"{site.name}.{part}"
                    if name not in names:
                        raise CheckpointError(f"{self.location / WEIGHTS} has no tensor '{name}'.")
                    vector = file.get_tensor(names[name])
                    if vector.shape != (self.config.n_embd,):
                        raise CheckpointError(
                            f"{self.location / WEIGHTS}: '{name}' has shape {list(vector.shape)} where config.json "
                            f"says {[self.config.n_embd]}."
                        )
                    vectors.append(vector.astype(np.float64))
                found[site.name] = LayerNormParameters(gain=vectors[0], bias=vectors[1])
        return found

    @override
    def state_dict(self) -> dict[str, torch.Tensor]:
        with self._tensors("pt") as (file, names):
            return {name: file.get_tensor(stored) for name, stored in names.items()}

    @override
    def tokenizer(self) -> Tokenizer | None:
        return read_tokenizer(self.location)

    @contextmanager
    def _tensors(self, framework: str) -> Iterator[tuple[Any, dict[str, str]]]:
        """Open the weights; yield the file and its tensors' names, keyed without the ``transformer.`` prefix."""
        from safetensors import SafetensorError, safe_open

        path = self.location / WEIGHTS
        try:
            with safe_open(path, framework=framework) as file:
                yield file, {name.removeprefix(BODY_PREFIX): name for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}.") from error
        except OSError as error:
            raise CheckpointError(f"can't read {path}: {error.strerror or error}.") from error
