"""The pages, one for each command and topic: Markdown that lies beside the code."""

from __future__ import annotations

from pathlib import Path

from gpt2ln_cli.errors import UsageError, did_you_mean

PAGES = Path(__file__).parents[2] / "docs"


def names() -> list[str]:
    """What there is a page for."""
    return sorted(path.stem for path in PAGES.glob("*.md"))


def topics() -> dict[str, str]:
    """The pages that are of more than a command, with what their title, ``# name: about``, says of them."""
    titles = {name: page(name).partition("\n")[0].removeprefix("# ") for name in names()}
    return {name: title.removeprefix(f"{name}: ") for name, title in titles.items() if title.startswith(f"{name}: ")}


def page(name: str) -> str:
    """The page of a command or topic, as Markdown; ``gpt2ln help``.

    Raises:
        UsageError: there is none of this name.
    """
    known = names()
    if name not in known:
        raise UsageError(f"no page '{name}'; 'gpt2ln help' lists all. {did_you_mean(name, known)}".rstrip())
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")
