"""The record of ``compare`` as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt2ln_cli.commands.compare import tables
from gpt2ln_cli.commands.compare.record import Setting, SharedDirection
from gpt2ln_cli.commands.compare.tables import labels_of, named, of_context
from gpt2ln_cli.output.blocks import Block, Column, Heading, Look, Paragraph, Table, View, table_of
from gpt2ln_cli.output.claims import CLAIMS, Says, claims, claims_table
from gpt2ln_cli.output.header import (
    PROMPTS,
    WARNINGS,
    header,
    nonfinite,
    prompts_table,
    quotes,
    warnings,
    warnings_table,
)
from gpt2ln_cli.output.text import number, quoted, visible

if TYPE_CHECKING:
    from gpt2ln_cli.commands.compare.record import Comparison, SigmaProbe

DEFAULT_WORDS = '"ok" and "hatred"'
DEFAULT_CONTEXT = '"war violence hate fear"'
TABLES = (
    "tokens",
    "pairs",
    "probe",
    "later",
    "settings",
    "shared",
    "shared_tokens",
    "contexts",
    CLAIMS,
    PROMPTS,
    WARNINGS,
)
# Contexts that are laid out, of several.
CONTEXTS_SHOWN = 3
# Sites that are laid out, of several.
SITES_SHOWN = 5
SHARE = (
    "The share is ||m||^2 / mean ||xhat||^2, m being the mean of xhat over the tokens. Normalizing each feature across "
    "the tokens leaves none of it. 'Common direction out': without the direction of the mean xhat of the sample "
    "prompts. Each site and token: --all, or any format for data."
)
SAYS = {
    "compare.two_numbers_discarded": Says(
        "what is taken",
        yes="of a token's {features} numbers LayerNorm takes two, mu and sigma: with these x is rebuilt from xhat, to "
        "rounding, in all {cases} cases. mu holds at most {mean_share:.2%} of ||x||^2, sigma the rest.",
        no="something else than mu and sigma is taken: with these x is not rebuilt from xhat in {statistic:.0f} of "
        "{cases} cases (at {worst} it is off by {error:.2g} of ||x||).",
        unsure="whether mu and sigma are all that is taken can't be told from these numbers.",
    ),
    "compare.scale_equalized": Says(
        "size",
        yes="every token is brought to sigma 1, but for eps; before, sigma differs between these by a factor of up to "
        "{before} (at {where}).",
        no="not every token is brought to sigma 1: the largest error is {off:.2g}, and rounding allows {statistic} "
        "times less. Before, sigma differs between these by a factor of up to {before} (at {where}).",
        unsure="whether every token is brought to sigma 1 can't be told: some sigma is no number.",
    ),
    "compare.shape_kept": Says(
        "shape",
        yes="normalizing keeps it: x - mu and xhat differ by nothing but a factor in all {cases} cases, so kurtosis "
        "stays. Gain and bias then change kurtosis by {by_gain:.2f} at most.",
        no="normalizing changes it in {statistic:.0f} of {cases} cases, kurtosis by up to {by_normalizing:.3g}; gain "
        "and bias by {by_gain:.2f} at most.",
        unsure="whether normalizing keeps it can't be told from these numbers.",
    ),
    "compare.greater_sigma": Says(
        "larger",
        yes='"{second}" is: its sigma of x is {difference} times that of "{first}" (median; greater at {greater} of '
        "{sites} sites), and only {level:.0%} of pairs of random words differ by {reach} times.",
        no='"{first}" is, and not "{second}", whose sigma of x is {difference} times its own (median; greater at '
        "{greater} of {sites} sites); only {level:.0%} of pairs of random words differ by {reach} times.",
        unsure='sigma of x of "{second}" is {difference} times that of "{first}" (median; greater at {greater} of '
        "{sites} sites), but {why}.",
    ),
    "compare.greater_kurtosis": Says(
        "spikier",
        yes='"{second}" is: its kurtosis is that of "{first}" and {difference:.2f} (median; greater at {greater} of '
        "{sites} sites), and only {level:.0%} of pairs of random words differ by {reach:.2f}.",
        no='"{first}" is, and not "{second}", whose kurtosis is its own and {difference:.2f} (median; greater at '
        "{greater} of {sites} sites); only {level:.0%} of pairs of random words differ by {reach:.2f}.",
        unsure='kurtosis of "{second}" is that of "{first}" and {difference:.2f} (median; greater at {greater} of '
        "{sites} sites), but {why}.",
    ),
    "compare.stream_keeps_sigma": Says(
        "kept",
        yes="the residual stream keeps sigma: a linear probe reads the log sigma of a site from the residual at "
        "the next site with R^2 {statistic:.2f}, from y with {post:.2f}, at {last_site} with {last:.2f} (medians over "
        "{sites} sites, held-out tokens). With sigma shuffled R^2 stays below {chance:.2f}.",
        no="a linear probe doesn't find sigma in the residual stream: it reads the log sigma of a site from the "
        "residual at the next site with R^2 {statistic:.2f}, from y with {post:.2f} (medians over {sites} sites, "
        "held-out tokens), where keeping it would take more than {threshold:.2f}, and more than y.",
        unsure="whether the residual stream keeps sigma can't be told: {why}.",
    ),
    "compare.tokens_share_direction": Says(
        "a shared direction",
        yes="the tokens share one, which holds {statistic:.1%} of their ||xhat||^2 (median over {sites} sites, "
        "{lowest:.0%} to {highest:.0%}); at right angles to each other they would share {unrelated:.0%}, and with the "
        "features of each shuffled {threshold:.0%} at most.",
        no="the tokens share none to speak of: {statistic:.1%} of their ||xhat||^2 (median over {sites} sites) is "
        "what chance gives, {unrelated:.0%} at right angles to each other and up to {threshold:.0%} with the features "
        "of each shuffled.",
        unsure="whether the tokens share one can't be told: some of their numbers are none.",
    ),
    "compare.lost_across_tokens": Says(
        "lost across tokens",
        yes="all of it: with each feature normalized across the tokens no direction is shared, for their mean is 0.",
        no="nothing: there is no shared direction that normalizing each feature across the tokens could lose.",
        unsure="whether normalizing across the tokens loses anything can't be told.",
    ),
    "compare.more_than_random_tokens": Says(
        "more than any tokens",
        yes="they share more than random tokens do, {statistic:.1%} where as many of these share {random:.1%} (median "
        "of {draws} draws; up to {threshold:.1%}) and function words {function_words:.1%}.",
        no="they share what any tokens do: {statistic:.1%}, where as many random ones share {random:.1%} (median of "
        "{draws} draws; up to {threshold:.1%}) and function words {function_words:.1%}.",
        unsure="whether they share more than random tokens do can't be told: there is nothing to hold them against.",
    ),
    "compare.more_of_their_own": Says(
        "of their own",
        yes="once the direction that all text shares is taken out, they share {statistic:.1%} of what is left and "
        "random tokens {random:.1%}: {own:+.1%} of their own, more than chance gives (up to {threshold:.1%}). The rest "
        "is common to any text.",
        no="once the direction that all text shares is taken out, they share {statistic:.1%} of what is left and "
        "random tokens {random:.1%}: {own:+.1%} of their own, no more than chance gives (up to {threshold:.1%}). The "
        "rest is common to any text.",
        unsure="what they have in common of their own can't be told: there is nothing to hold them against.",
    ),
}


def view(record: Comparison) -> View:
    """What is claimed of tokens or contexts, the sites that show it, and all the numbers."""
    main = "shared" if record.contexts else "tokens"
    return View(record, list(_blocks(record)), more=list(_data(record)), main=main)


def _data(record: Comparison) -> Iterator[Table]:
    """All numbers, for data and for whoever asks for everything."""
    if record.settings:
        yield tables.tokens(record.settings)
        yield tables.pairs(record.settings)
        yield table_of("settings", Setting, record.settings)
    if record.probe is not None:
        yield tables.probe(record.probe)
        yield tables.later(record.probe)
    if record.contexts:
        yield tables.shared(record)
        yield tables.shared_tokens(record)
        yield table_of("contexts", SharedDirection, record.contexts)
    yield claims_table(record.claims, SAYS)
    yield prompts_table(record.prompts)
    yield warnings_table(record.warnings)


def _blocks(record: Comparison) -> Iterator[Block]:
    yield header(record.model, record.prompts, bos=record.bos)
    yield quotes(record.prompts)
    yield from warnings(record.warnings)
    for setting in record.settings:
        yield Paragraph(" ".join(_what(setting)), "strong")
        yield claims(record.claims, SAYS)
        yield from _some_sites(setting, record.probe)
    for context in record.contexts[:CONTEXTS_SHOWN]:
        yield from _context(record, context)
    if record.contexts:
        yield Paragraph(SHARE, "note")
    if len(record.contexts) > CONTEXTS_SHOWN:
        yield Paragraph(f"{len(record.contexts) - CONTEXTS_SHOWN} more contexts: --all, or any format for data.")
    yield from nonfinite(record.nonfinite)


def _what(setting: Setting) -> Iterator[str]:
    """What is compared, and where it differs most, in sentences."""
    tokens = setting.tokens
    names = [named(token) for token in tokens]
    places = sorted({token.position for token in tokens})
    place = f"position {places[0]}" if len(places) == 1 else f"positions {', '.join(map(str, places))}"
    around = "run alone" if setting.template is None else f'in "{visible(setting.template)}"'
    alike = ", one token each behind the same tokens" if setting.alike else ""
    yield f"Compared are the tokens {_listed(names)}, {around}, at {place}{alike}."
    for token in tokens:
        if token.stands_for is not None:
            yield (
                f"{quoted(token.stands_for)} is several tokens to this tokenizer: {quoted(token.text or '')} "
                "stands for it."
            )
        elif token.own_tokens > 1 and token.text is not None:
            yield f"{named(token)} is one of {token.own_tokens} tokens of {quoted(token.text)}."
    if 0 in places:
        yield "At position 0 the residual is unlike any other's, whatever the word."
    for name, what in (("sigma", "size (sigma)"), ("excess_kurtosis", "shape (excess kurtosis)")):
        site = _furthest(setting, name)
        if site is not None:
            values = [number(getattr(token.sites[site].pre, name)) for token in tokens]
            yield f"They differ most in {what} at {tokens[0].sites[site].site}: {_listed(values)}."


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _furthest(setting: Setting, name: str) -> int | None:
    """The site at which a quantity of x differs most between the tokens; sigma by its ratio."""
    found = {}
    for index, at_site in enumerate(zip(*(token.sites for token in setting.tokens), strict=True)):
        values = [getattr(one.pre, name) for one in at_site]
        if None not in values and (name != "sigma" or min(values) > 0):
            found[index] = max(values) / min(values) if name == "sigma" else max(values) - min(values)
    return max(found, key=lambda index: found[index]) if found else None


def _chosen(count: int, more: Sequence[int | None]) -> list[int]:
    """The first site, the middle one, the last, and some more; all where that leaves out few."""
    if count <= SITES_SHOWN:
        return list(range(count))
    return sorted({0, count // 2, count - 1, *(index for index in more if index is not None)})


def _some_sites(setting: Setting, probe: SigmaProbe | None) -> Iterator[Block]:
    tokens = setting.tokens
    labels = labels_of(setting)
    count = len(tokens[0].sites)
    chosen = _chosen(count, [_furthest(setting, name) for name in ("sigma", "excess_kurtosis")])
    columns = [Column("site", str, look=Look("site", key=True), data=False)]
    cells = [[tokens[0].sites[index].site for index in chosen]]

    def add(group: str, heading: str, values: Sequence[float | None]) -> None:
        columns.append(Column(f"{group} {heading}", float, look=Look(heading, group), data=False))
        cells.append(list(values))  # type: ignore[arg-type]

    for group, stage, name in (
        ("sigma of x", "pre", "sigma"),
        ("kurtosis of x", "pre", "excess_kurtosis"),
        ("sigma of y", "post", "sigma"),
    ):
        for label, token in zip(labels, tokens, strict=True):
            add(group, label, [getattr(getattr(token.sites[index], stage), name) for index in chosen])
    if len(setting.pairs) == 1:
        for heading, stage in (("x", "pre"), ("y", "post")):
            add("cosine of", heading, [getattr(setting.pairs[0].sites[index], stage) for index in chosen])
    if probe is not None:
        reads = [probe.sites[index] for index in chosen]
        add("sigma read from (R^2)", "y", [one.post for one in reads])
        add("sigma read from (R^2)", "next x", [one.later[0].r_squared if one.later else None for one in reads])
    which = f"{len(chosen)} of {count} sites: first, middle, last, and where they differ most"
    yield Heading(which if len(chosen) < count else f"All {count} sites" if count > 1 else "The site")
    yield Table("some_sites", columns, lambda: zip(*cells, strict=True))
    if any(label != (token.text or "") for label, token in zip(labels, tokens, strict=True)):
        yield Paragraph("; ".join(f"{label} is {named(token)}" for label, token in zip(labels, tokens, strict=True)))
    yield Paragraph(
        "x enters the LayerNorm, y leaves it; xhat, between, has sigma 1, the kurtosis of x and norm sqrt(d). sigma "
        "divides by d." + ("" if len(chosen) == count else " All sites and figures: --all, or any format for data."),
        "note",
    )


def _context(record: Comparison, context: SharedDirection) -> Iterator[Block]:
    yield Heading(of_context(record, context))
    yield claims((one for one in record.claims if one.figures["sequence"] == context.sequence), SAYS)
    sites = context.sites
    known = {index: one.real for index, one in enumerate(sites) if one.real is not None}
    ends = [choose(known, key=lambda index: known[index]) for choose in (min, max)] if known else []
    chosen = [sites[index] for index in _chosen(len(sites), ends)]
    which = f"{len(chosen)} of {len(sites)} sites: first, middle, last, and where most and least is shared"
    some = tables.shared_table(record, "some_shared", [(one, context) for one in chosen])
    yield replace(
        some,
        columns=[
            replace(column, data=False, look=None if column.name == "of" else column.look) for column in some.columns
        ],
        by=None,
        title=which if len(chosen) < len(sites) else "",
    )
