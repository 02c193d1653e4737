"""The record of ``compare`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.compare.record import (
    ComparedToken,
    Cosines,
    LaterReading,
    SharedAtSite,
    SigmaReading,
    TokenAtSite,
    TokenInContext,
    TokenPair,
)
from gpt2ln_cli.output.blocks import Block, Column, Fact, Facts, Heading, Look, Paragraph, Part, Table, View, table_of
from gpt2ln_cli.output.header import header, nonfinite, quotes, warnings
from gpt2ln_cli.output.text import quoted, visible

if TYPE_CHECKING:
    from gpt2ln_cli.commands.compare.record import Comparison, Setting, SharedDirection, SigmaProbe

SEQUENCE = Column("sequence", int, "``index`` of the sequence in ``prompts``.")
TEMPLATE = Column("template", str, "The carrier sentence; null where each was run alone.")
DEFAULT_WORDS = '"ok" and "hatred"'
DEFAULT_CONTEXT = '"war violence hate fear"'
TABLES = ("tokens", "pairs", "probe", "later", "shared", "shared_tokens")
LABEL_WIDTH = 9
# Contexts up to this long get a column for each token.
TOKENS_SHOWN = 16
STAGES = ("pre", "normalized", "post")
SHAPES = (("sigma", "sigma"), ("kurtosis", "excess_kurtosis"), ("max dev", "max_deviation"))
EXPLAINED = (
    "pre is x, normalized is xhat (the module's output with gain and bias undone), post is y. sigma divides by d; v "
    "stands for x, xhat or y. 'held by mu' and 'held by sigma' are d mu^2 and d sigma^2 over ||x||^2. 'x rebuilt, off "
    "by' is ||x - (sqrt(sigma^2 + eps) xhat + mu)|| / ||x||, beside what one rounding of each number makes of it."
)
POSITION_0 = (
    "Some stand at position 0 and some do not: a difference between them may be that of position 0, whose residual is "
    "unlike any other's, and not that of the words."
)


def view(record: Comparison) -> View:
    """Tokens side by side, whether sigma can be read back, what contexts share, and the findings."""
    later = table_of(
        "later",
        [Part(LaterReading)],
        [(reading, site) for site in (record.probe.sites if record.probe else ()) for reading in site.later],
        also=[(Column("sigma_at", str, "The LayerNorm whose sigma is read."), lambda item: item[1].site)],
    )
    more = [later] if record.probe else []
    return View(record, list(_blocks(record)), more=[*more, _shared_tokens(record)] if _is_long(record) else more)


def _blocks(record: Comparison) -> Iterator[Block]:
    yield header(record.model, record.prompts, bos=record.bos)
    yield quotes(record.prompts)
    yield from warnings(record.warnings)
    if record.settings:
        yield from _settings(record.settings)
    if record.probe is not None:
        yield from _probe(record.probe)
    if record.contexts:
        yield from _contexts(record)
    yield from nonfinite(record.nonfinite)
    for finding in record.findings:
        answer = {True: "yes", False: "NO", None: "undecided"}[finding.holds]
        yield Paragraph(f"{finding.name} ({answer}): {finding.statement}", "strong")


def _surrounding(setting: Setting) -> str:
    return "Each alone" if setting.template is None else f'In "{setting.template}"'


def _settings(settings: Sequence[Setting]) -> Iterator[Block]:
    labels = {id(token): label for one in settings for token, label in zip(one.tokens, _labels(one), strict=True)}
    for setting in settings:
        yield Heading(_surrounding(setting))
        yield Facts(
            [
                Fact(
                    labels[id(token)],
                    f"compared at {_named(token)}, position {token.position} of sequence {token.sequence}",
                )
                for token in setting.tokens
            ]
        )
        if len({token.position == 0 for token in setting.tokens}) == 2:
            yield Paragraph(POSITION_0)
    yield Heading("The tokens side by side: their shape, what is discarded, and the norms that are left")
    yield _tokens(settings, labels)
    yield Paragraph(EXPLAINED)
    yield Heading("Is it gone? The residual stream goes around: cosines between the same tokens at every site")
    yield _pairs(settings, labels)


def _tokens(settings: Sequence[Setting], labels: dict[int, str]) -> Table:
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


def _pairs(settings: Sequence[Setting], labels: dict[int, str]) -> Table:
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


def _named(token: ComparedToken) -> str:
    return f"id {token.token_id}" if token.token is None else quoted(token.token)


def _labels(setting: Setting) -> list[str]:
    """The words themselves where they are short and differ, else numbers that the legend explains."""
    from rich.cells import cell_len

    tokens = setting.tokens
    texts = [visible(token.text) if token.text is not None else f"id {token.token_id}" for token in tokens]
    if len(set(texts)) == len(texts) and all(0 < cell_len(text) <= LABEL_WIDTH for text in texts):
        return texts
    return [f"#{number}" for number in range(1, len(tokens) + 1)]


def _probe(probe: SigmaProbe) -> Iterator[Block]:
    yield Heading("Can sigma be read back? R^2 of a linear probe for log sigma, on held-out tokens")
    group = "read from"
    looks = {
        "site": Look("sigma at", key=True),
        "pre": Look("x there", group),
        "post": Look("y there", group),
        "next": Look("x, next site", group),
        "last": Look(f"x at {probe.sites[-1].site}", group),
    }
    yield table_of(
        "probe",
        SigmaReading,
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
    yield Paragraph(
        "Ridge regression on standardized features, its penalty by generalized cross-validation; "
        f"{' and '.join(probe.texts)} (sample prompts) in pieces of {probe.piece} tokens, every other one held out: "
        f"{probe.fitted_tokens:,} tokens are fitted, {probe.held_out_tokens:,} held out, position 0 of each piece "
        "apart. 1 is perfect, 0 no better than the mean. xhat has no scale: what y tells of sigma, it tells by "
        "direction and by what eps leaves. Every later site is in --json."
    )


def _contexts(record: Comparison) -> Iterator[Block]:
    contexts = record.contexts
    yield Heading("The direction that the tokens of a context share")
    yield from (
        Paragraph(
            f"{_of(record, context)}: {context.unrelated:.4g} of 1 is what {record.prompts[context.sequence].length:,} "
            "tokens at right angles to each other would share."
        )
        for context in contexts
    )
    yield table_of(
        "shared",
        [Part(SharedAtSite)],
        [(at, context) for context in contexts for at in context.sites],
        {
            "of": Look("of", key=True),
            "site": Look("site", key=True),
            "real": Look("LayerNorm", "share of ||xhat||^2", "percent"),
            "across_tokens": Look("across tokens", "share of ||xhat||^2", "percent"),
        },
        also=[(SEQUENCE, lambda item: item[1].sequence)],
        words={"of": lambda item: _of(record, item[1])},
        by="of",
    )
    long = _is_long(record)
    short = [context for context in record.contexts if not _is_long(record, context)]
    if short:
        # Where one is long, what is for data alone has all of them under the same name.
        yield _shared_tokens(record, short)
    yield Paragraph(
        "m is the mean of xhat over the tokens. The share is ||m||^2 / mean ||xhat||^2; of each token, <xhat, m> / "
        "||xhat||^2. 'LayerNorm' is the model's own, 'across tokens' what each feature normalized over the tokens "
        "would leave, where m is zero by construction." + (" Each token's own share is in --json." if long else "")
    )


def _shared_tokens(record: Comparison, contexts: Sequence[SharedDirection] | None = None) -> Table:
    shown = record.contexts if contexts is None else contexts
    return table_of(
        "shared_tokens",
        [Part(TokenInContext)],
        [(token, at, context) for context in shown for at in context.sites for token in at.tokens],
        {
            "of": Look("of", key=True),
            "site": Look("site", key=True),
            "label": Look("token", key=True),
            "real": Look("of each token, LayerNorm", form="percent"),
            "across_tokens": Look("of each token, across tokens", form="percent"),
        },
        also=[
            (SEQUENCE, lambda item: item[2].sequence),
            (Column("site", str, "Name of the LayerNorm."), lambda item: item[1].site),
        ],
        words={
            "of": lambda item: _of(record, item[2]),
            "label": lambda item: f"id {item[0].token_id}" if item[0].token is None else quoted(item[0].token),
        },
        by="of",
        across="label",
    )


def _of(record: Comparison, context: SharedDirection) -> str:
    text = record.prompts[context.sequence].text
    return f"sequence {context.sequence}" if text is None else f'sequence {context.sequence}, "{text}"'


def _is_long(record: Comparison, *contexts: SharedDirection) -> bool:
    """Whether any of the contexts, of all unless given, has more tokens than there is room for columns."""
    return any(record.prompts[context.sequence].length > TOKENS_SHOWN for context in contexts or record.contexts)
