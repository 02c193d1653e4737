"""The record of ``compare`` as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from gpt2ln_cli.escaping import visible
from gpt2ln_cli.render.layout import Group, heading, number, percent, plain_table, quoted, side_by_side

if TYPE_CHECKING:
    from rich.console import Console

    from gpt2ln_cli.records import ComparedToken, Comparison, Setting, SharedDirection, SigmaProbe, TokenAtSite

LABEL_WIDTH = 9
# Contexts up to this long get a column for each token.
TOKENS_SHOWN = 16
STAGES = ("pre", "normalized", "post")
SHAPES = (("sigma", "sigma"), ("kurtosis", "excess_kurtosis"), ("max dev", "max_deviation"))


def write_comparison(console: Console, record: Comparison) -> None:
    """Write what follows the header."""
    for setting in record.settings:
        _setting(console, setting)
    if record.settings:
        _say(
            console,
            "pre is x, normalized is xhat (the module's output with gain and bias undone), post is y. sigma divides by "
            "d; v stands for x, xhat or y. 'held by mu' and 'held by sigma' are d mu^2 and d sigma^2 over ||x||^2. 'x "
            "rebuilt, off by' is ||x - (sqrt(sigma^2 + eps) xhat + mu)|| / ||x||, beside what one rounding of each "
            "number makes of it.",
        )
    if record.probe is not None:
        _probe(console, record.probe)
    for context in record.contexts:
        _context(console, record, context)
    if record.nonfinite:
        _say(console, f"{record.nonfinite:,} numbers were NaN or infinite and are shown as a dash.")
    for finding in record.findings:
        answer = {True: "yes", False: "NO", None: "undecided"}[finding.holds]
        console.print(Text(f"{finding.name} ({answer}): {finding.statement}", style="bold"))


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(visible(text), style="bold"))
    console.print()


def _setting(console: Console, setting: Setting) -> None:
    tokens = setting.tokens
    labels = _labels(tokens)
    _heading(console, "Each alone" if setting.template is None else f'In "{setting.template}"')
    legend = plain_table("", "compared at", "position", "sequence", left=2)
    for label, token in zip(labels, tokens, strict=True):
        name = f"id {token.token_id}" if token.token is None else quoted(token.token)
        legend.add_row(Text(label), Text(name), str(token.position), str(token.sequence))
    console.print(legend)
    if len({token.position == 0 for token in tokens}) == 2:
        _say(
            console,
            "Some stand at position 0 and some do not: a difference between them may be that of position 0, whose "
            "residual is unlike any other's, and not that of the words.",
        )
    console.print()

    def each(title: str, value: Callable[[TokenAtSite], str]) -> Group:
        return Group(title, labels, [[value(one) for one in at] for at in _by_site(tokens)])

    groups = [
        each(f"{stage}: {title}", lambda one, at=attrgetter(f"{stage}.{name}"): number(at(one)))  # type: ignore[misc]
        for title, name in SHAPES
        for stage in STAGES
    ]
    _tables(console, tokens[0], groups)
    _heading(console, "What is discarded: mu and sigma, and what is left")
    _tables(
        console,
        tokens[0],
        [
            each("mu", lambda one: number(one.mean)),
            each("held by mu", lambda one: percent(one.mean_share)),
            each("held by sigma", lambda one: percent(one.sigma_share)),
            each("x rebuilt, off by", lambda one: number(one.rebuilt_error)),
            each("by rounding", lambda one: number(one.rounding)),
        ],
    )
    _heading(console, "Is it gone? The residual stream goes around: the same tokens at the next sites")
    _tables(
        console,
        tokens[0],
        [
            each("pre: ||x||", lambda one: number(one.pre.norm)),
            each("normalized: ||xhat||", lambda one: number(one.normalized.norm)),
            each("post: ||y||", lambda one: number(one.post.norm)),
            *(
                Group(
                    f"cosine {labels[pair.first]}, {labels[pair.second]}",
                    STAGES,
                    [[number(at.pre), number(at.normalized), number(at.post)] for at in pair.sites],
                )
                for pair in setting.pairs
            ),
        ],
    )


def _by_site(tokens: Sequence[ComparedToken]) -> list[tuple[TokenAtSite, ...]]:
    return list(zip(*(token.sites for token in tokens), strict=True))


def _tables(console: Console, token: ComparedToken, groups: Sequence[Group]) -> None:
    for table in side_by_side(console, Group("", ["site"], [[one.site] for one in token.sites]), groups):
        console.print(table)
        console.print()


def _labels(tokens: Sequence[ComparedToken]) -> list[str]:
    """The words themselves where they are short and differ, else letters or numbers that the legend explains."""
    texts = [visible(token.text) if token.text is not None else f"id {token.token_id}" for token in tokens]
    if len(set(texts)) == len(texts) and all(0 < cell_len(text) <= LABEL_WIDTH for text in texts):
        return texts
    return [f"#{number}" for number in range(1, len(tokens) + 1)]


def _probe(console: Console, probe: SigmaProbe) -> None:
    _heading(console, "Can sigma be read back? R^2 of a linear probe for log sigma, on held-out tokens")
    rows = [
        [
            number(reading.pre),
            number(reading.post),
            number(reading.later[0].r_squared if reading.later else None),
            number(reading.later[-1].r_squared if reading.later else None),
        ]
        for reading in probe.sites
    ]
    last = probe.sites[-1].site
    key = Group("", ["sigma at"], [[reading.site] for reading in probe.sites])
    headings = ["x there", "y there", "x, next site", f"x at {last}"]
    for table in side_by_side(console, key, [Group("read from", headings, rows)]):
        console.print(table)
        console.print()
    _say(
        console,
        "Ridge regression on standardized features, its penalty by generalized cross-validation; "
        f"{' and '.join(probe.texts)} (sample prompts) in pieces of {probe.piece} tokens, every other one held out: "
        f"{probe.fitted_tokens:,} tokens are fitted, {probe.held_out_tokens:,} held out, position 0 of each piece "
        "apart. 1 is perfect, 0 no better than the mean. xhat has no scale: what y tells of sigma, it tells by "
        "direction and by what eps leaves. Every later site is in --json.",
    )


def _context(console: Console, record: Comparison, context: SharedDirection) -> None:
    prompt = record.prompts[context.sequence]
    text = f'"{prompt.text}"' if prompt.text is not None else f"sequence {context.sequence}"
    _heading(console, f"The direction that the {prompt.length:,} tokens of {text} share")
    groups = [
        Group(
            "share of ||xhat||^2",
            ["LayerNorm", "across tokens"],
            [[percent(site.real), percent(site.across_tokens)] for site in context.sites],
        )
    ]
    shown = prompt.length <= TOKENS_SHOWN
    if shown:
        names = [
            f"id {token.token_id}" if token.token is None else heading(quoted(token.token))
            for token in context.sites[0].tokens
        ]
        groups += [
            Group(
                "of each token, LayerNorm", names, [[percent(t.real) for t in site.tokens] for site in context.sites]
            ),
            Group(
                "of each token, across tokens",
                names,
                [[percent(t.across_tokens) for t in site.tokens] for site in context.sites],
            ),
        ]
    key = Group("", ["site"], [[site.site] for site in context.sites])
    for table in side_by_side(console, key, groups):
        console.print(table)
        console.print()
    _say(
        console,
        "m is the mean of xhat over the tokens. The share is ||m||^2 / mean ||xhat||^2; of each token, <xhat, m> / "
        "||xhat||^2. 'LayerNorm' is the model's own, 'across tokens' what each feature normalized over the tokens "
        f"would leave, where m is zero by construction. {context.unrelated:.4g} of 1 is what {prompt.length:,} tokens "
        "at right angles to each other would share." + ("" if shown else " Each token's own share is in --json."),
    )


def _say(console: Console, text: str) -> None:
    console.print(Text(text))
