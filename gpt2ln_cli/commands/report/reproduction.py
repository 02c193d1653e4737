"""The command line and the Python call that give a record's numbers again."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import get_args

from gpt2ln_cli import __version__
from gpt2ln_cli.commands.inspect.record import Inspection
from gpt2ln_cli.commands.report.record import Reproduction, Versions
from gpt2ln_cli.model import Dtype, Model
from gpt2ln_cli.model.subject import Running
from gpt2ln_cli.records import ModelInfo, PromptInfo
from gpt2ln_cli.sites import FINAL
from gpt2ln_cli.text.prompts import STANDARD_INPUT

# Beyond this many characters the prompts no longer fit a command line that anyone would paste; Linux's limit for one
# word is 131,072 bytes.
LONGEST = 32_768


def reproduction(
    record: Inspection,
    source: Model,
    *,
    layers: Sequence[int | str] | None,
    kinds: Collection[str] | None,
    running: Running,
) -> Reproduction:
    """The calls of ``report`` that give an inspection again, on the same commit, device and dtype.

    Args:
        record: the inspection.
        source: the model that was inspected.
        layers: numbers and ``"final"``.
        kinds: of ``ln_1``, ``ln_2`` and ``ln_f``.
        running: how the prompts were run.
    """
    model = record.model
    overflow = running.get("overflow", "error")
    loading: dict[str, object] = {
        "model": model.name,
        "revision": model.revision,
        "heads": source.heads if source.heads is not None or not _heads_are_inferred(model) else model.n_head,
        "prefix": source.prefix,
        "device": (model.device or "auto").partition(":")[0],
        "dtype": model.dtype if model.dtype in get_args(Dtype) else None,
    }
    chosen: dict[str, object] = {
        "layers": None if layers is None else [layer if layer == FINAL else int(layer) for layer in layers],
        "sites": sorted(kinds) if kinds else None,
        "bos": record.bos or None,
        "overflow": None if overflow == "error" else overflow,
        "batch_size": running.get("batch_size"),
        "batch_tokens": running.get("batch_tokens"),
    }
    loading, chosen = ({name: value for name, value in part.items() if value is not None} for part in (loading, chosen))
    texts, ids = _prompts(record.prompts, bos=record.bos)
    words = ["gpt2ln", "report", *_words({**loading, **chosen}), "--output", "report.html"]
    given = ["--", *texts] if texts else [word for one in ids for word in ("--token-ids", ",".join(map(str, one)))]
    complete = len(shlex.join(given)) <= LONGEST
    return Reproduction(
        command=[*words, *(given if complete else ["--prompts", "PROMPTS"])],
        python=_call(loading, chosen, [repr(prompt) for prompt in texts or ids] if complete else None),
        complete=complete,
        versions=Versions(
            gpt2ln=__version__,
            python=platform.python_version(),
            torch=version("torch"),
            transformers=version("transformers"),
        ),
    )


def _prompts(prompts: Sequence[PromptInfo], *, bos: bool) -> tuple[list[str], list[list[int]]]:
    """The prompts as they were given, before they were cut into windows: all as texts, or else all as token ids.

    A text that could do something to whoever pastes it (line breaks, control characters, marks that turn the direction
    of writing) goes as ids, as does one that would be read as standard input.
    """
    pieces: dict[int, list[PromptInfo]] = {}
    for piece in prompts:
        pieces.setdefault(piece.prompt, []).append(piece)
    texts = [first.text for first, *_ in pieces.values()]
    plain = [text for text in texts if text is not None and text.isprintable() and text != STANDARD_INPUT]
    if len(plain) == len(texts):
        return plain, []
    start = 1 if bos else 0
    return [], [[i for piece in parts for i in piece.token_ids[start:]] for parts in pieces.values()]


def _heads_are_inferred(model: ModelInfo) -> bool:
    return any(text.startswith("n_head") for text in model.inferred)


def _words(options: Mapping[str, object]) -> list[str]:
    words = []
    for name, value in options.items():
        if name == "bos":
            words.append("--bos")
        elif name == "layers":
            assert isinstance(value, list)
            words += ["--layer", ",".join(map(str, value))]
        elif name == "sites":
            assert isinstance(value, list)
            words += [word for kind in value for word in ("--site", kind)]
        else:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def _call(loading: Mapping[str, object], chosen: Mapping[str, object], prompts: Sequence[str] | None) -> str:
    name, *how = (f"{key}={value!r}" for key, value in loading.items())
    listed = "prompts" if prompts is None else "[" + ", ".join(prompts) + "]"
    arguments = [listed, "model=model", *(f"{key}={value!r}" for key, value in chosen.items())]
    return "\n".join(
        [
            "import gpt2ln_cli",
            "",
            f"model = gpt2ln_cli.load({', '.join([name.removeprefix('model='), *how])})",
            "record = gpt2ln_cli.report(",
            *(f"    {argument}," for argument in arguments),
            ")",
        ]
    )
