"""What stands above every table and picture, as blocks: the model, the prompts, and what was flagged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.output.blocks import Fact, Facts, Paragraph, Quote, Quotes, Table, table_of
from gpt2ln_cli.records import Flag, PromptInfo

if TYPE_CHECKING:
    from gpt2ln_cli.records import ModelInfo

# Of tables.
PROMPTS, WARNINGS = "prompts", "warnings"
# Sites named in a warning that many share.
WARNED_SITES = 3
# Prompts on a page, and characters of each.
PROMPTS_SHOWN, PROMPT_SHOWN = 20, 280


def header(
    model: ModelInfo,
    prompts: Sequence[PromptInfo] | None = None,
    *,
    bos: bool = False,
    padding: int | None = None,
    more: Sequence[Fact] = (),
) -> Facts:
    """Which model it was, from where, how it was run and on what.

    Args:
        model: the model.
        prompts: the sequences; None where none were run.
        bos: whether ``<|endoftext|>`` begins each.
        padding: how many positions were padded; None leaves it out.
        more: further facts, below.
    """
    ran = [] if prompts is None else _prompts(prompts, bos=bos, padding=padding)
    return Facts([*_model(model), *ran, *more])


def warnings(flags: Sequence[Flag]) -> Iterator[Paragraph]:
    """Each message once, with the first of the sites that share it."""
    sites: dict[str, list[str]] = {}
    for flag in flags:
        sites.setdefault(flag.message, []).extend([flag.site] if flag.site else [])
    for message, names in sites.items():
        more = f" and {len(names) - WARNED_SITES} more" if names[WARNED_SITES:] else ""
        shown = f"{', '.join(names[:WARNED_SITES])}{more}: " if names else ""
        yield Paragraph(f"warning: {shown}{message}.", "warning")


def prompts_table(prompts: Sequence[PromptInfo]) -> Table:
    """The sequences in full, for data."""
    return table_of(PROMPTS, PromptInfo, prompts)


def warnings_table(flags: Sequence[Flag]) -> Table:
    """What was flagged, each at its site, for data."""
    return table_of(WARNINGS, Flag, flags)


def quotes(prompts: Sequence[PromptInfo]) -> Quotes:
    """The beginnings of the first sequences."""
    several = len(prompts) > 1
    return Quotes(
        f"The {len(prompts):,} sequences" if several else "The prompt",
        [_quote(prompt, numbered=several) for prompt in prompts[:PROMPTS_SHOWN]],
        len(prompts[PROMPTS_SHOWN:]),
    )


def nonfinite(count: int, *, warn: bool = False) -> Iterator[Paragraph]:
    """That numbers are missing, where any are; as a warning where it stands far above them."""
    if count:
        one = "1 number was NaN or infinite and is shown as a dash."
        text = one if count == 1 else f"{count:,} numbers were NaN or infinite and are shown as a dash."
        yield Paragraph(f"warning: {text}", "warning") if warn else Paragraph(text)


def _quote(prompt: PromptInfo, *, numbered: bool) -> Quote:
    text = prompt.text
    if text is None and prompt.tokens is not None:
        text = "".join(prompt.tokens)
    if text is not None and len(text) > PROMPT_SHOWN:
        text = f"{text[:PROMPT_SHOWN]} ..."
    length = f"{prompt.length:,} token{'s' * (prompt.length != 1)}"
    return Quote(text, f"{prompt.index}: {length}" if numbered else length)


def _model(model: ModelInfo) -> list[Fact]:
    device = f" on {model.device}" if model.device else " as stored; no forward pass was run"
    if model.source == "bundled":
        origin = [Fact("model", f"{model.name} (bundled with gpt2ln)")]
    else:
        revision = f", revision {model.revision}" if model.revision else ""
        origin = [Fact("model", f"{model.name} ({model.source}{revision})"), Fact("from", model.location)]
    shape = (
        f"{model.n_layer} layers, {model.n_head} heads, width {model.n_embd}, context {model.n_positions}, "
        f"eps {model.eps:g}"
    )
    inferred = [Fact("" if index else "inferred", text) for index, text in enumerate(model.inferred)]
    return [*origin, Fact("shape", shape), Fact("dtype", f"{model.dtype}{device}"), *inferred]


def _prompts(prompts: Sequence[PromptInfo], *, bos: bool, padding: int | None) -> Iterator[Fact]:
    longest = max(prompt.length for prompt in prompts)
    total = sum(prompt.length for prompt in prompts)
    if len(prompts) == 1:
        parts = [f"1 sequence x {longest:,} token{'s' * (longest != 1)}"]
    else:
        parts = [f"{len(prompts):,} sequences x up to {longest:,} = {total:,} tokens"]
    if padding is not None:
        parts.append(f"padded positions: {padding:,}" if padding else "no padding")
    parts.append("<|endoftext|> prepended to each" if bos else "no <|endoftext|> prepended")
    yield Fact("prompts", "; ".join(parts))
    pieces = len({prompt.prompt for prompt in prompts})
    if pieces < len(prompts):
        yield Fact("windows", f"prompts: {pieces:,}; a long one is run in consecutive windows, positions from 0")
    dropped = sum(prompt.dropped for prompt in prompts)
    if dropped:
        unread = sum(prompt.unread for prompt in prompts)
        more = f", and {unread:,} characters unread" if unread else ""
        yield Fact("truncated", f"{dropped:,} tokens beyond the context were left out{more}")
