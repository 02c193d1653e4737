"""The tables of ``compare`` in full: every token, pair, site and context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.compare.record import (
    ComparedToken,
    Cosines,
    LaterProbe,
    SharedAtSite,
    SharedDirection,
    SiteProbe,
    TokenAtSite,
    TokenInContext,
    TokenPair,
)
from gpt2ln_cli.output.blocks import Column, Look, Part, Table, table_of
from gpt2ln_cli.output.text import quoted, visible

if TYPE_CHECKING:
    from gpt2ln_cli.commands.compare.record import Comparison, Setting, SigmaProbe

SEQUENCE = Column("sequence", int, "``index`` of the sequence in ``prompts``.")
TEMPLATE = Column("template", str, "The carrier sentence; null where each was run alone.")
LABEL_WIDTH = 9
# Characters of a context.
TEXT_SHOWN = 60
STAGES = ("pre", "normalized", "post")
SHAPES = (("sigma", "sigma"), ("kurtosis", "excess_kurtosis"), ("max dev", "max_deviation"))


def _surrounding(setting: Setting) -> str:
    return "Each alone" if setting.template is None else f'In "{setting.template}"'


def tokens(settings: Sequence[Setting]) -> Table:
    """Every token at every site."""
    labels = _all_labels(settings)
    looks = {
        "surrounding": Look("surrounding", key=True),
        "site": Look("site", key=True),
        "label": Look("token", key=True),
    }
    looks |= {f"{stage}_{name}": Look(title, stage) for title, name in SHAPES for stage in STAGES}
    looks |= {
        "mean": Look("mu"),
        "mean_share": Look("held by mu", form="percent"),
        "sigma_share": Look("held by sigma", form="percent"),
        "rebuilt_error": Look("x rebuilt, off by"),
        "rounding": Look("by rounding"),
        "pre_norm": Look("||x||", "pre"),
        "normalized_norm": Look("||xhat||", "normalized"),
        "post_norm": Look("||y||", "post"),
    }
    return table_of(
        "tokens",
        [Part(ComparedToken, "token_"), Part(TokenAtSite)],
        [(token, at, setting) for setting in settings for token in setting.tokens for at in token.sites],
        looks,
        also=[(TEMPLATE, lambda item: item[2].template)],
        words={"surrounding": lambda item: _surrounding(item[2]), "label": lambda item: labels[id(item[0])]},
        by="surrounding",
        across="label",
    )


def pairs(settings: Sequence[Setting]) -> Table:
    """Cosines between every two of them."""
    labels = _all_labels(settings)

    def pair(item: tuple[TokenPair, Cosines, Setting]) -> str:
        return ", ".join(labels[id(item[2].tokens[place])] for place in (item[0].first, item[0].second))

    looks = {
        "surrounding": Look("surrounding", key=True),
        "site": Look("site", key=True),
        "pair": Look("pair", key=True),
    }
    return table_of(
        "pairs",
        [Part(TokenPair, "pair_"), Part(Cosines)],
        [(one, at, setting) for setting in settings for one in setting.pairs for at in one.sites],
        looks | {stage: Look(stage, "cosine") for stage in STAGES},
        also=[(TEMPLATE, lambda item: item[2].template)],
        words={"surrounding": lambda item: _surrounding(item[2]), "pair": pair},
        by="surrounding",
        across="pair",
    )


def _all_labels(settings: Sequence[Setting]) -> dict[int, str]:
    return {id(token): label for one in settings for token, label in zip(one.tokens, labels_of(one), strict=True)}


def named(token: ComparedToken) -> str:
    """The token itself, as it stands in its text."""
    return f"id {token.token_id}" if token.token is None else quoted(token.token)


def labels_of(setting: Setting) -> list[str]:
    """The words themselves where they are short and differ, else numbers that the legend explains."""
    from rich.cells import cell_len

    tokens = setting.tokens
    texts = [visible(token.text) if token.text is not None else f"id {token.token_id}" for token in tokens]
    if len(set(texts)) == len(texts) and all(0 < cell_len(text) <= LABEL_WIDTH for text in texts):
        return texts
    return [f"#{number}" for number in range(1, len(tokens) + 1)]


def probe(probe: SigmaProbe) -> Table:
    """How well log sigma of each site is read, here, at the next site and at the last."""
    group = "read from"
    looks = {
        "site": Look("sigma at", key=True),
        "pre": Look("x there", group),
        "post": Look("y there", group),
        "next": Look("x, next site", group),
        "last": Look(f"x at {probe.sites[-1].site}", group),
    }
    return table_of(
        "probe",
        SiteProbe,
        probe.sites,
        looks,
        also=[
            (
                Column("next", float, "R^2 from x at the next site."),
                lambda one: one.later[0].r_squared if one.later else None,
            ),
            (
                Column("last", float, "R^2 from x at the last site."),
                lambda one: one.later[-1].r_squared if one.later else None,
            ),
        ],
    )


def later(probe: SigmaProbe) -> Table:
    """The same at every later site."""
    return table_of(
        "later",
        [Part(LaterProbe)],
        [(reading, site) for site in probe.sites for reading in site.later],
        {
            "sigma_at": Look("sigma at", key=True),
            "site": Look("x at", key=True),
            "r_squared": Look("R^2"),
        },
        also=[(Column("sigma_at", str, "The LayerNorm whose sigma is read."), lambda item: item[1].site)],
    )


def shared(record: Comparison) -> Table:
    """What the tokens of each context share, at every site."""
    rows = [(at, context) for context in record.contexts for at in context.sites]
    return shared_table(record, "shared", rows)


def shared_table(record: Comparison, name: str, rows: Sequence[tuple[SharedAtSite, SharedDirection]]) -> Table:
    """Rows of sites, with what other tokens share there."""
    whole, remaining = "share of ||xhat||^2", "common direction out"
    return table_of(
        name,
        [Part(SharedAtSite)],
        rows,
        {
            "of": Look("of", key=True),
            "site": Look("site", key=True),
            "real": Look("these", whole, "percent"),
            "others_random": Look("random", whole, "percent"),
            "others_function_words": Look("function", whole, "percent"),
            "remaining": Look("these", remaining, "percent"),
            "others_random_remaining": Look("random", remaining, "percent"),
            "others_function_words_remaining": Look("function", remaining, "percent"),
        },
        also=[(SEQUENCE, lambda item: item[1].sequence)],
        words={"of": lambda item: of_context(record, item[1])},
        by="of",
    )


def shared_tokens(record: Comparison) -> Table:
    """How much of each token's xhat the direction holds, at every site."""
    return table_of(
        "shared_tokens",
        [Part(TokenInContext)],
        [(token, at, context) for context in record.contexts for at in context.sites for token in at.tokens],
        {
            "of": Look("of", key=True),
            "site": Look("site", key=True),
            "position": Look("position", key=True),
            "label": Look("token", key=True),
            "real": Look("LayerNorm", form="percent"),
            "across_tokens": Look("across tokens", form="percent"),
        },
        also=[
            (SEQUENCE, lambda item: item[2].sequence),
            (Column("site", str, "Name of the LayerNorm."), lambda item: item[1].site),
        ],
        words={
            "of": lambda item: of_context(record, item[2]),
            "label": lambda item: f"id {item[0].token_id}" if item[0].token is None else quoted(item[0].token),
        },
        by="of",
    )


def of_context(record: Comparison, context: SharedDirection) -> str:
    """Which context it is."""
    text = record.prompts[context.sequence].text
    if text is None:
        return f"sequence {context.sequence}"
    shown = text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}..."
    return f'sequence {context.sequence}, "{shown}"'
