"""``gpt2ln plot``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpt2ln_cli.commands.ablate.view import DEFAULT_PROMPTS as ABLATED
from gpt2ln_cli.commands.plot import figures as plots
from gpt2ln_cli.commands.verify.view import DEFAULT_PROMPTS as VERIFIED
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.shell import completion, options, output_file
from gpt2ln_cli.shell.command import Command
from gpt2ln_cli.shell.notes import note_model
from gpt2ln_cli.shell.progress import progress_bar
from gpt2ln_cli.shell.prompts import Given

if TYPE_CHECKING:
    from gpt2ln_cli.commands.ablate.record import Ablation
    from gpt2ln_cli.commands.attribute.record import Attribution
    from gpt2ln_cli.commands.features.record import Features
    from gpt2ln_cli.commands.inspect.record import Inspection
    from gpt2ln_cli.commands.params.record import Parameters
    from gpt2ln_cli.commands.plot.record import Steps
    from gpt2ln_cli.commands.profile.record import Profile
    from gpt2ln_cli.commands.track.record import Track
    from gpt2ln_cli.commands.verify.record import Verification

EXAMPLE = """\b
Kinds:
  sigma     inspect: sigma by layer, position 0 and the rest
  gain      params: learned gain and bias by layer, outliers named
  heatmap   inspect --per-token: layers x tokens
  axis      verify: how well every axis that LayerNorm could have fits
  ablation  ablate: what the predictions lose
  steps     one token of each prompt through one LayerNorm, feature by feature
  features  features: layers x the features that make up sigma
  attribute attribute: who wrote sigma, stacked by layer
  track     track: gain and bias over a training run, with --prompts sigma too
  profile   profile: quantile bands of sigma by layer, and sigma by position

\b
Examples:
  gpt2ln plot sigma --output sigma.svg
  gpt2ln plot gain --model gpt2 --site ln_1 --output gain.pdf
  gpt2ln plot steps "ok" "hatred" --layer 6 --output steps.svg
  gpt2ln plot profile run/ --output profile.png
  gpt2ln plot heatmap "war violence" --quantity post_norm -o heatmap.png
"""
PROMPTS = (
    "prompt",
    "files",
    "whole_file",
    "token_ids",
    "bos",
    "overflow",
    "device",
    "dtype",
    "batch_size",
    "batch_tokens",
)
MODEL = ("model", "revision", "heads", "prefix")
# What each kind makes no use of.
STEPS, TRACK = ("position", "template"), ("revisions",)
UNUSED = {
    "sigma": ("quantity", *STEPS, *TRACK),
    "gain": (*PROMPTS, "quantity", *STEPS, *TRACK),
    "heatmap": (*STEPS, *TRACK),
    "axis": ("layers", "sites", "quantity", *STEPS, *TRACK),
    "ablation": ("quantity", *STEPS, *TRACK),
    "steps": ("quantity", *TRACK),
    "features": ("quantity", *STEPS, *TRACK),
    "attribute": ("quantity", *STEPS, *TRACK),
    "track": ("model", "revision", "quantity", *STEPS),
    "profile": (
        *(name for name in PROMPTS if name != "prompt"),
        "quantity",
        "layers",
        "sites",
        *MODEL,
        *STEPS,
        *TRACK,
    ),
}
DEFAULT_PROMPTS = {"axis": VERIFIED, "ablation": ABLATED, "steps": '"ok" and "hatred"'}


@click.command("plot", cls=Command, epilog=EXAMPLE)
@click.argument("kind", type=click.Choice(list(plots.KINDS)), metavar="KIND")
@options.prompt_options
@options.layer_option()
@options.site_option
@click.option(
    "--quantity",
    type=click.Choice(list(QUANTITIES)),
    metavar="QUANTITY",
    default="sigma",
    show_default=True,
    help=f"What the heatmap shows of each token: {', '.join(QUANTITIES)}.",
)
@click.option(
    "--position",
    type=int,
    default=-1,
    show_default=True,
    metavar="N",
    help="Whose steps: this one of a prompt's tokens, -1 being the last.",
)
@click.option(
    "--template",
    metavar="TEXT",
    help="For steps, a sentence that carries each prompt, {} in its place; '{}' alone is none.",
)
@options.revisions_option
@options.model_options
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    shell_complete=completion.files,
    help="The figure, .png, .svg or .pdf; whole or not at all.",
)
@click.pass_context
def command(
    context: click.Context,
    kind: str,
    given: Given,
    layers: str | None,
    sites: tuple[str, ...],
    quantity: str,
    position: int,
    template: str | None,
    revisions: tuple[str, ...],
    chosen: options.Choice,
    output: str,
) -> None:
    """Draw a figure for a paper: PNG, SVG or PDF, as the name of the file says.

    PROMPT and the options are those of the command that the KIND is of, and so is what is used without any PROMPT; for
    track, each PROMPT is a CHECKPOINT; for profile, it is the folder of a run.
    Needs matplotlib: pip install ".[plot]".
    """
    _check_applies(context, kind)
    image_format = _image_format(output)
    output_file.check(output)
    plots.check_matplotlib()
    record: Inspection | Parameters | Verification | Ablation | Steps | Features | Attribution | Track | Profile
    if kind == "gain":
        from gpt2ln_cli.commands.params.compute import params

        # Every feature is listed: those far from the others are not always those far from 1 and 0.
        record = params(model=chosen.load(), layers=layers, sites=sites, features=sys.maxsize)
    elif kind == "track":
        record = _track(given, revisions, layers, sites, chosen)
    elif kind == "profile":
        if len(given.prompt) != 1:
            raise UsageError("give 'plot profile' the folder of one run of 'gpt2ln profile'.")
        from gpt2ln_cli.commands.profile.compute import profile

        record = profile(output=given.prompt[0])
    else:
        prompts = given.gather(default=DEFAULT_PROMPTS.get(kind))
        plots.check_room(kind, len(prompts or ()))
        from gpt2ln_cli.commands.ablate.compute import ablate
        from gpt2ln_cli.commands.attribute.compute import attribute
        from gpt2ln_cli.commands.features.compute import features
        from gpt2ln_cli.commands.inspect.compute import inspect
        from gpt2ln_cli.commands.plot.compute import steps
        from gpt2ln_cli.commands.verify.compute import verify

        with progress_bar(chosen.model) as progress:
            running, model = given.running(progress), chosen.load()
            if kind == "axis":
                record = verify(prompts, model=model, **running)
            elif kind == "ablation":
                record = ablate(prompts, model=model, layers=layers, sites=sites, **running)
            elif kind == "steps":
                record = steps(
                    prompts,
                    model=model,
                    layers=layers,
                    sites=sites or None,
                    position=position,
                    template=template,
                    **running,
                )
            elif kind == "features":
                record = features(prompts, model=model, layers=layers, sites=sites, **running)
            elif kind == "attribute":
                record = attribute(prompts, model=model, layers=layers, sites=sites, **running)
            else:
                per_token = kind == "heatmap"
                record = inspect(prompts, model=model, layers=layers, sites=sites, per_token=per_token, **running)
    note_model(record.model)
    figure = plots.draw(kind, record, quantity=quantity if kind == "heatmap" else None)
    output_file.deliver(lambda stream: plots.save(figure, stream.buffer, image_format), output=output, utf8=True)


def _track(
    given: Given, revisions: tuple[str, ...], layers: str | None, sites: tuple[str, ...], chosen: options.Choice
) -> Track:
    from gpt2ln_cli.commands.track.compute import track

    if not given.prompt:
        raise UsageError("'plot track' needs a CHECKPOINT, such as the folder of a training run.")
    prompts = replace(given, prompt=()).gather(default="")
    with progress_bar(given.prompt[0], unit="checkpoints" if prompts is None else "tokens") as progress:
        return track(
            given.prompt,
            prompts,
            revisions=revisions or None,
            layers=layers,
            sites=sites,
            heads=chosen.heads,
            prefix=chosen.prefix,
            device=chosen.device,
            dtype=chosen.dtype,
            **given.running(progress),
        )


def _check_applies(context: click.Context, kind: str) -> None:
    """Refuse what was given and would have no effect."""
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if given and parameter.name in UNUSED[kind]:
            name = max(parameter.opts, key=len) if isinstance(parameter, click.Option) else "PROMPT"
            raise UsageError(f"{name} does not apply to 'plot {kind}': leave it out.")


def _image_format(output: str) -> str:
    suffix = Path(output).suffix
    image_format = suffix.lower().removeprefix(".")
    if image_format not in plots.FORMATS:
        endings = ", ".join(f".{one}" for one in plots.FORMATS)
        raise UsageError(f"can't tell an image format from '{output}': let it end in one of {endings}.")
    return image_format
