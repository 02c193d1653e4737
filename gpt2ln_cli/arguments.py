"""What the functions of the library take, checked by one rule: what has no meaning or no effect is a UsageError.

An argument's name says what it must be, wherever it occurs. NumPy's integers and truth values are as good as Python's;
a truth value is no number, and nothing is rounded.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import operator
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.sites import parse_layers

P = ParamSpec("P")
T = TypeVar("T")

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "float16", "bfloat16")
OVERFLOWS = ("error", "truncate", "window")
SEPARATORS = ("line", "blank", "endoftext", "file")
DOCUMENTS = ("each", "packed")
ENGINES = ("local", "ray")
# What ``model.subject.Running`` has, and what each is unless given.
SHARED: dict[str, object] = {
    "bos": False,
    "overflow": "error",
    "batch_size": None,
    "batch_tokens": None,
    "progress": None,
}


def whole_number(name: str, value: object, *, least: int | None = None) -> int:
    """An integer, of Python's or NumPy's.

    Raises:
        UsageError: it is something else, or below ``least``.
    """
    words = name.replace("_", " ")
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(f"{words} {value!r}: it must be a whole number.") from None
    if least is not None and number < least:
        raise UsageError(f"{words} {number}: it must be {least} or more.")
    return number


def layer_list(value: object) -> list[int | str] | None:
    """The layers that were asked for: numbers, and ``"final"``; None for all.

    Args:
        value: a number, a text such as ``"0-3,11"`` or ``"final"``, or several of either.

    Raises:
        UsageError: it is something else.
    """
    if value is None:
        return None
    several = _several(value)
    return _one_layer(value) if several is None else [layer for part in several for layer in _one_layer(part)]


def _one_layer(value: object) -> list[int | str]:
    return parse_layers(value) if isinstance(value, str) else [whole_number("layer", value)]


def feature_list(value: object, width: int) -> list[int] | None:
    """The features of x that were asked for; None for none.

    Args:
        value: a number, a text such as ``"447,138"``, or several numbers.
        width: how many features there are.

    Raises:
        UsageError: it is something else, there is no such feature, or fewer than two others are left.
    """
    if value is None:
        return None
    several = value.split(",") if isinstance(value, str) else _several(value)
    found = sorted({_feature(one) for one in ([value] if several is None else several)})
    for one in found:
        if one >= width:
            raise UsageError(f"feature {one}: this model has features 0 to {width - 1}.")
    if not 0 < len(found) <= width - 2:
        raise UsageError(f"{len(found)} features of {width}: give one or more, and leave two or more.")
    return found


def _feature(value: object) -> int:
    text = value.strip() if isinstance(value, str) else None
    if text is not None and not (text.isdecimal() and len(text) < 18):
        raise UsageError(f"feature '{text}' is not a number; write 447 or 447,138.")
    return whole_number("feature", value if text is None else int(text), least=0)


def prompt_list(value: object) -> list[str | list[int]]:
    """The prompts: each a text or a list of token ids.

    Args:
        value: one text, or several texts or lists (or arrays) of token ids.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(value, str):
        return [value]
    if (prompts := _several(value)) is None:
        raise UsageError(f"prompts {value!r}: give a text, or a list of texts and of lists of token ids.")
    return [_prompt(number, prompt) for number, prompt in enumerate(prompts)]


def _prompt(number: int, value: object) -> str | list[int]:
    if isinstance(value, str):
        return value
    if (tokens := _several(value)) is None:
        raise UsageError(f"prompt {number} is {value!r}: give a text or a list of token ids, such as [[464, 3290]].")
    return [whole_number(f"prompt {number}: token id", token) for token in tokens]


def _several(value: Any) -> Iterable[Any] | None:
    """The value, if it is several things; bytes are not, and neither is an array without dimensions."""
    single = isinstance(value, (str, bytes, bytearray, Mapping)) or getattr(value, "ndim", 1) == 0
    return value if isinstance(value, Iterable) and not single else None


def _kinds(_: str, value: object) -> list[str]:
    if (kinds := _several(value)) is None:
        raise UsageError(f"sites {value!r}: give a list, such as ['ln_1', 'ln_f'].")
    return list(kinds)


def _truth(name: str, value: object) -> bool:
    if type(value).__name__ not in ("bool", "bool_"):  # NumPy's has either name
        raise UsageError(f"{name} {value!r}: it must be True or False.")
    return bool(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} {value!r}: it must be text.")
    return value


def checkpoint_name(name: str, value: object) -> str:
    """A bundled name, a path or a Hub id, as text.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise UsageError(f"{name} is a {type(value).__name__}; give a bundled name, a folder, a file or a Hub id.")
    return str(value)


def _called(name: str, value: object) -> object:
    if not callable(value):
        raise UsageError(f"{name} {value!r}: it must be a function of (done, total).")
    return value


def one_of(name: str, value: object, allowed: Collection[str]) -> object:
    """One of the texts that are allowed.

    Raises:
        UsageError: it is none of them.
    """
    if value not in allowed:
        raise UsageError(f"{name} '{value}' is none of {', '.join(allowed)}.")
    return value


def _one_of(*allowed: str) -> Callable[[str, object], object]:
    return functools.partial(one_of, allowed=allowed)


def _amount(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) < math.inf:
        raise UsageError(f"{name.replace('_', ' ')} {value!r}: it must be a number, 0 or more.")
    return float(value)


_from_1 = functools.partial(whole_number, least=1)
_RULES: dict[str, Callable[[str, Any], object]] = {
    "prompts": lambda _, value: prompt_list(value),
    "revision": _text,
    "heads": _from_1,
    "device": _one_of(*DEVICES),
    "dtype": _one_of(*DTYPES),
    "layers": lambda _, value: layer_list(value),
    "sites": _kinds,
    "per_token": _truth,
    "by_head": _truth,
    "feature": functools.partial(whole_number, least=0),
    "token": functools.partial(whole_number, least=0),
    "sort": _text,  # of which each command has its own
    "top": _from_1,
    "features": _from_1,
    "context": _truth,
    "position": whole_number,
    "vectors": _truth,
    "template": _text,
    "bos": _truth,
    "overflow": _one_of(*OVERFLOWS),
    "batch_size": _from_1,
    "batch_tokens": _from_1,
    "prefix": _text,
    "progress": _called,
    "column": _text,
    "separator": _one_of(*SEPARATORS),
    "documents": _one_of(*DOCUMENTS),
    "limit_tokens": _from_1,
    "skip_bad": _truth,
    "workers": _from_1,
    "threads": _from_1,
    "shard": _text,
    "engine": _one_of(*ENGINES),
    "ray_address": _text,
    "worker_cpus": _amount,
    "worker_gpus": _amount,
}


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Have every argument that is not its default held against the rule of its name, and handed on as plain Python.

    Where the signature unpacks a ``TypedDict``, a keyword that is not in it is a TypeError, as elsewhere.
    """
    signature = inspect.signature(function)
    unpacked = next((name for name, one in signature.parameters.items() if one.kind is one.VAR_KEYWORD), None)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        given = signature.bind(*args, **kwargs)
        shared = given.arguments.get(unpacked, {}) if unpacked else {}
        for name in shared:
            if name not in SHARED:
                raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{name}'")
        for arguments in (given.arguments, shared):
            for name, value in arguments.items():
                default = signature.parameters[name].default if arguments is given.arguments else SHARED[name]
                # A number of features to list, and elsewhere whether to measure them.
                rule = _truth if isinstance(default, bool) else _RULES.get(name)
                if rule is not None and value is not default:
                    arguments[name] = rule(name, value)
        return function(*given.args, **given.kwargs)

    return call


def refuse_without_effect(why: str, **given: tuple[object, object]) -> None:
    """Refuse arguments that make no difference.

    Args:
        why: what makes them so, in words.
        given: by the argument's name, its value and its default.

    Raises:
        UsageError: a value is not the default.
    """
    idle = [name for name, (value, default) in given.items() if value != default]
    if idle:
        raise UsageError(f"{' and '.join(idle)} {'have' if idle[1:] else 'has'} no effect {why}: leave out.")
