"""What the command line does, as functions that return records."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from gpt2ln_cli import __version__, counting
from gpt2ln_cli.arguments import checked, checkpoint_name, layer_list, prompt_list, refuse_without_effect
from gpt2ln_cli.checkpoint import DEFAULT_MODEL, Checkpoint, locate
from gpt2ln_cli.errors import CheckpointError, UsageError
from gpt2ln_cli.quantities import POSITION
from gpt2ln_cli.records import (
    Ablation,
    Arithmetic,
    Comparison,
    Difference,
    Inspection,
    ModelInfo,
    Models,
    Parameters,
    Report,
    Tour,
    Verification,
    strict,
    united,
)
from gpt2ln_cli.sites import Site, select_sites

if TYPE_CHECKING:
    from gpt2ln_cli.inspection import Run
    from gpt2ln_cli.model import Device, Dtype, LoadedModel
    from gpt2ln_cli.prompts import Overflow
    from gpt2ln_cli.statistics import Progress

Prompts = str | Sequence[str | Sequence[int]]
Layers = int | str | Sequence[int | str]
RecordT = TypeVar("RecordT", Inspection, Parameters, Comparison, Ablation, Verification, Difference, Tour)
VERIFIED = ("The war was over, but the hatred was not.", "war violence hate fear")
# The page's verdicts need no more, and the whole context of a large model would take minutes and gigabytes.
VERIFIED_TOKENS = 256
COMPARED = ("ok", "hatred")
COMPARED_CONTEXT = "war violence hate fear"


@checked
def inspect(
    prompts: Prompts | None = None,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    per_token: bool = False,
    bos: bool = False,
    overflow: Overflow = "error",
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Run prompts and summarize what every LayerNorm computed; ``gpt2ln inspect``.

    Args:
        prompts: texts, or token ids; a single string is one prompt, None is the bundled sample.
        model: a bundled name, a folder, a file, a Hub id, or what :func:`gpt2ln_cli.load` returned; how that is loaded
            was settled there.
        revision: branch, tag or commit of a Hub id.
        heads: attention heads, for a file that does not tell.
        prefix: what the tensors' names begin with, for a file that holds several bodies, as those of ``policy`` and
            ``ref``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; ``auto`` is the first of cuda, mps and cpu that is there.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``; ``auto`` is the type the weights are stored in.
        layers: a layer from 0, ``"final"`` for ln_f, several of them, or a text such as ``"0-3,11"``; None for all.
        sites: of ``ln_1``, ``ln_2`` and ``ln_f``; None for all.
        per_token: also one row for each site, sequence and token.
        bos: begin every sequence with ``<|endoftext|>``.
        overflow: what becomes of a prompt longer than the context: ``error``, ``truncate`` or ``window``.
        batch_size: most sequences in a forward pass; None lets their lengths decide.
        batch_tokens: most tokens in a forward pass, padding included; None is 1,024 on a CPU, and on a GPU what its
            free memory takes.
        progress: called with (tokens done, tokens in all) after every forward pass.

    Raises:
        UsageError: no such layer or site, or ``batch_size`` or ``batch_tokens`` below 1.
        CheckpointError: the checkpoint can't be found, read or trusted.
        PromptError: a prompt can't be used.
    """
    run = _run(
        prompts,
        model=_located(model, revision, heads, prefix, device, dtype),
        device=device,
        dtype=dtype,
        layers=layers,
        sites=sites,
        shape=per_token,
        bos=bos,
        overflow=overflow,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    return _strict(run.record("inspect", run.rows() if per_token else None))


@checked
def stats(
    prompts: Prompts | None = None,
    *,
    layers: Layers,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    sites: Collection[str] | None = None,
    sort: str = POSITION,
    top: int | None = None,
    bos: bool = False,
    overflow: Overflow = "error",
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Run prompts up to a layer and list every token's statistics there; ``gpt2ln stats``.

    Args:
        prompts: as for :func:`inspect`.
        layers: as for :func:`inspect`. The forward pass stops after the last wanted site.
        model: as for :func:`inspect`.
        revision: as for :func:`inspect`.
        heads: as for :func:`inspect`.
        prefix: as for :func:`inspect`.
        device: as for :func:`inspect`.
        dtype: as for :func:`inspect`.
        sites: as for :func:`inspect`.
        sort: the quantity to order each site's rows by, greatest first; ``position`` keeps the text's order.
        top: how many rows of each site to keep; None keeps all.
        bos: as for :func:`inspect`.
        overflow: as for :func:`inspect`.
        batch_size: as for :func:`inspect`.
        batch_tokens: as for :func:`inspect`.
        progress: as for :func:`inspect`.

    Raises:
        UsageError: no such layer, site or quantity, or ``batch_size``, ``batch_tokens`` or ``top`` below 1.
        CheckpointError: as for :func:`inspect`.
        PromptError: as for :func:`inspect`.
    """
    run = _run(
        prompts,
        model=_located(model, revision, heads, prefix, device, dtype),
        device=device,
        dtype=dtype,
        layers=layers,
        sites=sites,
        shape=True,
        bos=bos,
        overflow=overflow,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    return _strict(run.record("stats", run.rows(sort=sort, top=top)))


@checked
def params(
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    prefix: str | None = None,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    top: int | None = None,
) -> Parameters:
    """Summarize learned gains and biases, without torch and without a forward pass; ``gpt2ln params``.

    Args:
        model: as for :func:`inspect`; of a loaded model, the gains and biases that it has now.
        revision: branch, tag or commit of a Hub id.
        heads: attention heads, for a file that does not tell.
        prefix: what the tensors' names begin with, for a file that holds several bodies, as those of ``policy`` and
            ``ref``.
        layers: as for :func:`inspect`.
        sites: as for :func:`inspect`.
        top: how many of each vector's features to list, those farthest from 1 (gain) and 0 (bias).

    Raises:
        UsageError: no such layer or site, or ``top`` below 1.
        CheckpointError: the checkpoint can't be found, read or trusted.
    """
    from gpt2ln_cli.flags import eps_flags, parameter_flags
    from gpt2ln_cli.parameters import describe, judge

    source = _located(model, revision, heads, prefix)
    chosen = _sites(source, layers, sites)
    vectors = source.layer_norms()
    described = [describe(site, vectors[site.name], top=top) for site in chosen]
    info = _stored(source)
    flags = [*parameter_flags(vectors), *eps_flags(info.eps)]
    return _strict(Parameters(model=info, sites=described, verdict=judge(described), warnings=flags))


def count(
    *,
    tokens: int = 1024,
    batch: int = 1,
    layers: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    model: str | Path | None = None,
    revision: str | None = None,
    prefix: str | None = None,
) -> Arithmetic:
    """Count statistics by arithmetic alone, for GPT-2 and for the rival readings of it; ``gpt2ln count``.

    Args:
        tokens: tokens of each context.
        batch: contexts in the minibatch.
        layers: transformer blocks; None, as for the next two, is GPT-2 small's.
        width: features of the residual stream.
        heads: attention heads.
        model: a checkpoint that brings its own layers, width and heads.
        revision: branch, tag or commit of a Hub id.
        prefix: what the tensors' names begin with, for a file that holds several bodies.

    Raises:
        UsageError: a number is below 1, the width is no multiple of the heads, a count needs more than 64 bits, or a
            shape is given beside a model.
        CheckpointError: the checkpoint can't be found, or its configuration can't be used.
    """
    if model is None:
        refuse_without_effect("without a model", revision=(revision, None), prefix=(prefix, None))
        return counting.arithmetic(
            tokens=tokens,
            batch=batch,
            layers=counting.LAYERS if layers is None else layers,
            width=counting.WIDTH if width is None else width,
            heads=counting.HEADS if heads is None else heads,
        )
    refuse_without_effect(
        "on a model, which brings its own shape", layers=(layers, None), width=(width, None), heads=(heads, None)
    )
    config = locate(checkpoint_name("model", model), revision, prefix=prefix).config
    if tokens > config.n_positions:
        raise UsageError(f"{tokens} tokens: the context of '{model}' has {config.n_positions}.")
    return counting.arithmetic(
        tokens=tokens, batch=batch, layers=config.n_layer, width=config.n_embd, heads=config.n_head, model=str(model)
    )


def models() -> Models:
    """List the checkpoints that can be used without a download; ``gpt2ln models``.

    These are the bundled one and, in the Hugging Face cache, every GPT-2 whose configuration and weights are whole.
    What else lies in the cache, damaged entries included, is passed over.

    Raises:
        CheckpointError: the bundled checkpoint is missing or damaged.
    """
    from gpt2ln_cli import catalogue

    return catalogue.models()


@checked
def compare(
    prompts: Prompts | None = None,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    context: bool = False,
    position: int | None = None,
    template: str | None = None,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    bos: bool = False,
    overflow: Overflow = "error",
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Show what LayerNorm takes from tokens, what it leaves, and whether it is gone; ``gpt2ln compare``.

    Of each item one token is compared, once with the item run alone, and once in a carrier sentence. A linear probe,
    fitted and tried on bundled sample prompts, says how well what was taken can be read from the network again.

    Args:
        prompts: two or more words, texts or lists of token ids; None is "ok" and "hatred". With ``context``, one or
            more, and None is "war violence hate fear".
        model: as for :func:`inspect`.
        revision: as for :func:`inspect`.
        heads: as for :func:`inspect`.
        prefix: as for :func:`inspect`.
        device: as for :func:`inspect`.
        dtype: as for :func:`inspect`.
        context: look at whole contexts instead: the direction that all tokens of one share, under the real LayerNorm
            and under normalization of each feature across the tokens.
        position: which token of each item, from 0; negative counts from its last, and None is that one.
        template: the carrier sentence, with ``{}`` where the item goes; ``"{}"`` is none. None is "The word was {}."
            where every item is one word, and otherwise none.
        layers: as for :func:`inspect`.
        sites: as for :func:`inspect`.
        bos: as for :func:`inspect`.
        overflow: as for :func:`inspect`.
        batch_size: as for :func:`inspect`.
        batch_tokens: as for :func:`inspect`.
        progress: as for :func:`inspect`; the probe's passes are not counted.

    Raises:
        UsageError: as for :func:`inspect`; or one item alone, a template without one ``{}``, no such position, or
            either of the two with ``context``.
        CheckpointError: as for :func:`inspect`.
        PromptError: as for :func:`inspect`; or the token was cut off, or a context is one token.
    """
    from gpt2ln_cli.experiments.compare import choose_template, compare_contexts, compare_tokens, spots
    from gpt2ln_cli.subject import prepare

    if context:
        refuse_without_effect(
            "on contexts, whose tokens are all looked at", position=(position, None), template=(template, None)
        )
    if prompts is None:
        prompts = COMPARED_CONTEXT if context else COMPARED
    items = prompt_list(prompts)
    checkpoint = _located(model, revision, heads, prefix, device, dtype)
    chosen = _sites(checkpoint, layers, sites)
    if context:
        subject = prepare(
            items,
            model=checkpoint,
            device=device,
            dtype=dtype,
            bos=bos,
            overflow=overflow,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
        )
        return _strict(compare_contexts(subject, chosen, bos=bos, progress=progress))
    if len(items) < 2:
        raise UsageError("give two or more words to compare; one context by itself goes with --context.")
    carrier = choose_template(items, template)
    carried = [] if carrier is None else [carrier.replace("{}", str(item)) for item in items]
    subject = prepare(
        [*items, *carried],
        model=checkpoint,
        device=device,
        dtype=dtype,
        bos=bos,
        overflow=overflow,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
    )
    settings = [
        (
            chosen_template,
            items,
            spots(
                items,
                chosen_template,
                subject.contexts,
                subject.loaded.tokenizer,
                first_prompt=first_prompt,
                position=-1 if position is None else position,
                bos=bos,
            ),
        )
        for chosen_template, first_prompt in [(None, 0), *([] if carrier is None else [(carrier, len(items))])]
    ]
    return _strict(compare_tokens(subject, settings, chosen, bos=bos, progress=progress))


@checked
def ablate(
    prompts: Prompts | None = None,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    bos: bool = False,
    overflow: Overflow = "error",
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Ablation:
    """Replace LayerNorms by something else and measure what the model then predicts; ``gpt2ln ablate``.

    The weights were trained with the real LayerNorm: a replacement shows what this model depends on, not what a model
    trained with it could have learned.

    Args:
        prompts: as for :func:`inspect`; None is a bundled passage that the bundled model was not trained on.
        model: as for :func:`inspect`.
        revision: as for :func:`inspect`.
        heads: as for :func:`inspect`.
        prefix: as for :func:`inspect`.
        device: as for :func:`inspect`.
        dtype: as for :func:`inspect`.
        layers: the layers whose LayerNorms are replaced, as for :func:`inspect`.
        sites: the kinds that are replaced, as for :func:`inspect`.
        bos: as for :func:`inspect`.
        overflow: as for :func:`inspect`.
        batch_size: as for :func:`inspect`.
        batch_tokens: as for :func:`inspect`.
        progress: as for :func:`inspect`, the tokens of every replacement's passes counted.

    Raises:
        UsageError: as for :func:`inspect`.
        CheckpointError: as for :func:`inspect`; or there is no LM head.
        PromptError: as for :func:`inspect`; or every prompt is one token long.
    """
    from gpt2ln_cli.experiments.ablate import ablate as replace_all
    from gpt2ln_cli.prompts import HELD_OUT, long_sample
    from gpt2ln_cli.subject import prepare

    if prompts is None:
        prompts = long_sample(HELD_OUT)
    checkpoint = _located(model, revision, heads, prefix, device, dtype)
    chosen = _sites(checkpoint, layers, sites)
    subject = prepare(
        prompt_list(prompts),
        model=checkpoint,
        device=device,
        dtype=dtype,
        bos=bos,
        overflow=overflow,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
    )
    return _strict(replace_all(subject, chosen, bos=bos, progress=progress))


@checked
def verify(
    prompts: Prompts | None = None,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    bos: bool = False,
    overflow: Overflow = "error",
) -> Verification:
    """Try every reading of "LayerNorm" on what the model computes, and check what GPT-2 does; ``gpt2ln verify``.

    Args:
        prompts: as for :func:`inspect`; None is the bundled sample and a second line.
        model: as for :func:`inspect`.
        revision: as for :func:`inspect`.
        heads: as for :func:`inspect`.
        prefix: as for :func:`inspect`.
        device: as for :func:`inspect`.
        dtype: as for :func:`inspect`.
        bos: as for :func:`inspect`.
        overflow: as for :func:`inspect`.

    Raises:
        UsageError: no such device.
        CheckpointError: as for :func:`inspect`.
        PromptError: as for :func:`inspect`.
    """
    from gpt2ln_cli.experiments.verify import verify as try_readings
    from gpt2ln_cli.subject import prepare

    if prompts is None:
        prompts = VERIFIED
    subject = prepare(
        prompt_list(prompts),
        model=_located(model, revision, heads, prefix, device, dtype),
        device=device,
        dtype=dtype,
        bos=bos,
        overflow=overflow,
        batch_size=None,
    )
    return _strict(try_readings(subject, bos=bos))


@checked
def diff(
    model_a: str | Path,
    model_b: str | Path,
    prompts: Prompts | None = None,
    *,
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    top: int = 3,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    bos: bool = False,
    overflow: Overflow = "error",
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Difference:
    """Compare two checkpoints of one shape, LayerNorm by LayerNorm; ``gpt2ln diff``.

    Args:
        model_a: a bundled name, a folder, a file or a Hub id.
        model_b: the same; what changed is told as from A to B.
        prompts: texts or token ids to compare activations on, tokenized by A's tokenizer; None compares parameters
            alone, without torch where the files allow it.
        layers: as for :func:`inspect`.
        sites: as for :func:`inspect`.
        top: how many of each vector's most changed features to list.
        heads: as for :func:`inspect`, for both.
        prefix: as for :func:`inspect`, for both.
        device: as for :func:`inspect`.
        dtype: as for :func:`inspect`.
        bos: as for :func:`inspect`.
        overflow: as for :func:`inspect`.
        batch_size: as for :func:`inspect`.
        batch_tokens: as for :func:`inspect`.
        progress: as for :func:`inspect`, for each model in turn.

    Raises:
        UsageError: as for :func:`inspect`; or ``top`` below 1, or without prompts what a run alone would use.
        CheckpointError: as for :func:`inspect`, or the two differ in layers or width.
        PromptError: as for :func:`inspect`.
    """
    from gpt2ln_cli.experiments.diff import check_same_shape, compare_site
    from gpt2ln_cli.flags import eps_flags, of_both, parameter_flags

    if prompts is None:
        refuse_without_effect(
            "without prompts, when gains and biases alone are compared",
            device=(device, "auto"),
            dtype=(dtype, "auto"),
            bos=(bos, False),
            overflow=(overflow, "error"),
            batch_size=(batch_size, None),
            batch_tokens=(batch_tokens, None),
        )
    a, b = (locate(checkpoint_name("model", model), heads=heads, prefix=prefix) for model in (model_a, model_b))
    check_same_shape(a, b)
    chosen = select_sites(a.config.n_layer, layer_list(layers), sites)
    runs = None
    if prompts is not None:

        def run_of(model: str | Path, given: Prompts, *, begin: bool) -> Inspection:
            return inspect(
                given,
                model=model,
                heads=heads,
                prefix=prefix,
                device=device,
                dtype=dtype,
                layers=layers,
                sites=sites,
                bos=begin,
                overflow=overflow,
                batch_size=batch_size,
                batch_tokens=batch_tokens,
                progress=progress,
            )

        first = run_of(model_a, prompts, begin=bos)
        # The very same tokens, whatever B's own tokenizer would make of the text.
        runs = first, run_of(model_b, [prompt.token_ids for prompt in first.prompts], begin=False)
    learned = a.layer_norms(), b.layer_norms()
    flags = [
        [*parameter_flags(vectors), *eps_flags(one.config.layer_norm_epsilon)]
        for one, vectors in zip((a, b), learned, strict=True)
    ]
    if runs:
        flags = [run.warnings for run in runs]
    compared = [compare_site(site, learned[0][site.name], learned[1][site.name], top=top, runs=runs) for site in chosen]
    return _strict(
        Difference(
            model_a=runs[0].model if runs else a.info(dtype=a.stored_dtype(), device=None),
            model_b=runs[1].model if runs else b.info(dtype=b.stored_dtype(), device=None),
            prompts=runs[0].prompts if runs else None,
            sites=compared,
            changed_sites=sum(
                any(vector is not None and vector.changed for vector in (site.gain, site.bias)) for site in compared
            ),
            warnings=of_both(*flags),
        )
    )


@checked
def tour(
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> Tour:
    """Answer a learner's six questions by experiments on the checkpoint; ``gpt2ln tour``.

    Args:
        model: as for :func:`inspect`; it needs a tokenizer.
        revision: as for :func:`inspect`.
        heads: as for :func:`inspect`.
        prefix: as for :func:`inspect`.
        device: as for :func:`inspect`.
        dtype: as for :func:`inspect`.

    Raises:
        UsageError: no such device.
        CheckpointError: as for :func:`inspect`, or the checkpoint has no tokenizer.
    """
    from gpt2ln_cli.experiments import tour as guide
    from gpt2ln_cli.model import LoadedModel, load
    from gpt2ln_cli.parameters import judge
    from gpt2ln_cli.prompts import LONG_SAMPLE, long_sample

    if isinstance(model, LoadedModel):
        _located(model, revision, heads, prefix, device, dtype)
    else:
        model = load(model, revision=revision, heads=heads, prefix=prefix, device=device, dtype=dtype)
    loaded = model
    if loaded.tokenizer is None:
        raise CheckpointError(f"'{loaded.info.name}' has no tokenizer, and the tour is made of words.")
    config = loaded.checkpoint.config
    run = inspect(long_sample(LONG_SAMPLE), model=loaded, overflow="truncate")
    trial = verify(model=loaded)
    middle = config.n_layer // 2
    learners = count(tokens=1024, layers=config.n_layer, width=config.n_embd, heads=config.n_head)
    some_layers = range(0, config.n_layer, max(1, config.n_layer // 4))
    words, shared, ablation = compare(model=loaded), compare(model=loaded, context=True), ablate(model=loaded)
    record = _strict(
        Tour(
            model=loaded.info,
            answers=[
                guide.count_of_pairs(run, learners),
                guide.which_axis(trial),
                guide.each_context(trial),
                guide.what_is_thrown_away(words, middle),
                guide.across_tokens(shared, some_layers),
                guide.gain_and_bias(judge(run.sites), ablation, trial),
            ],
            warnings=united(*(record.warnings for record in (run, trial, words, shared, ablation))),
        )
    )
    # The figures are of records in which what is not finite is null already.
    cells = [cell for answer in record.answers for row in answer.table.rows for cell in row]
    return msgspec.structs.replace(record, nonfinite=cells.count(None))


@checked
def report(
    prompts: Prompts | None = None,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    revision: str | None = None,
    heads: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: Layers | None = None,
    sites: Collection[str] | None = None,
    bos: bool = False,
    overflow: Overflow = "error",
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Inspect prompts token by token and verify the model on their first 256 tokens; ``gpt2ln report``.

    :func:`gpt2ln_cli.render.report.write` makes the page of the record.

    Args:
        prompts: as for :func:`inspect`.
        model: as for :func:`inspect`.
        revision: as for :func:`inspect`.
        heads: as for :func:`inspect`.
        prefix: as for :func:`inspect`.
        device: as for :func:`inspect`.
        dtype: as for :func:`inspect`.
        layers: as for :func:`inspect`; every site is verified.
        sites: as for :func:`inspect`; every site is verified.
        bos: as for :func:`inspect`.
        overflow: as for :func:`inspect`.
        batch_size: as for :func:`inspect`.
        batch_tokens: as for :func:`inspect`.
        progress: as for :func:`inspect`; what is verified is not counted.

    Raises:
        UsageError: as for :func:`inspect`.
        CheckpointError: as for :func:`inspect`.
        PromptError: as for :func:`inspect`.
    """
    from gpt2ln_cli.experiments.verify import verify as try_readings
    from gpt2ln_cli.parameters import judge
    from gpt2ln_cli.prompts import beginning, plan_batches
    from gpt2ln_cli.reproduction import reproduction

    run = _run(
        prompts,
        model=_located(model, revision, heads, prefix, device, dtype),
        device=device,
        dtype=dtype,
        layers=layers,
        sites=sites,
        shape=True,
        bos=bos,
        overflow=overflow,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    inspection = _strict(run.record("inspect", run.rows()))
    contexts = beginning(run.subject.contexts, VERIFIED_TOKENS)
    batches = plan_batches([len(context.token_ids) for context in contexts], batch_size=batch_size)
    tried = replace(run.subject, contexts=contexts, batches=batches)
    verification = _strict(try_readings(tried, bos=bos))
    return Report(
        inspection=inspection,
        verdict=judge(inspection.sites),
        verification=verification,
        reproduction=reproduction(
            inspection,
            heads=heads,
            prefix=prefix,
            layers=layer_list(layers),
            kinds=sites,
            overflow=overflow,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            version_of_gpt2ln=__version__,
        ),
        nonfinite=inspection.nonfinite + verification.nonfinite,
    )


def schema(command: str | None = None) -> dict[str, Any]:
    """The JSON Schema of what a command returns, or of whatever any of them returns; ``gpt2ln schema``.

    Args:
        command: its name; None for all.

    Raises:
        UsageError: no command of this name returns a record.
    """
    from gpt2ln_cli.record_schema import RECORDS, json_schema

    if command is not None and command not in RECORDS:
        raise UsageError(f"no record comes from '{command}'; there is a schema for {', '.join(RECORDS)}.")
    return json_schema(command)


def _located(
    model: str | Path | LoadedModel,
    revision: str | None,
    heads: int | None,
    prefix: str | None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> Checkpoint | LoadedModel:
    from gpt2ln_cli.model import LoadedModel

    if not isinstance(model, LoadedModel):
        return locate(checkpoint_name("model", model), revision, heads=heads, prefix=prefix)
    refuse_without_effect(
        "on a model that is loaded",
        revision=(revision, None),
        heads=(heads, None),
        prefix=(prefix, None),
        device=(device, "auto"),
        dtype=(dtype, "auto"),
    )
    return model


def _sites(model: Checkpoint | LoadedModel, layers: Layers | None, kinds: Collection[str] | None) -> list[Site]:
    checkpoint = model if isinstance(model, Checkpoint) else model.checkpoint
    return select_sites(checkpoint.config.n_layer, layer_list(layers), kinds)


def _stored(source: Checkpoint | LoadedModel) -> ModelInfo:
    """The model for a record of its parameters alone: no forward pass was run."""
    if isinstance(source, Checkpoint):
        return source.info(dtype=source.stored_dtype(), device=None)
    return msgspec.structs.replace(source.info, device=None)


def _strict(record: RecordT) -> RecordT:
    cleaned, nonfinite = strict(record)
    complete: RecordT = msgspec.structs.replace(cleaned, nonfinite=nonfinite)
    return complete


def _run(
    prompts: Prompts | None,
    *,
    model: Checkpoint | LoadedModel,
    device: Device,
    dtype: Dtype,
    layers: Layers | None,
    sites: Collection[str] | None,
    shape: bool,
    bos: bool,
    overflow: Overflow,
    batch_size: int | None,
    batch_tokens: int | None,
    progress: Progress | None,
) -> Run:
    from gpt2ln_cli.inspection import run
    from gpt2ln_cli.prompts import sample_prompt

    if prompts is None:
        prompts = sample_prompt()
    return run(
        prompt_list(prompts),
        model=model,
        device=device,
        dtype=dtype,
        layers=layer_list(layers),
        kinds=sites,
        shape=shape,
        bos=bos,
        overflow=overflow,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        progress=progress,
    )
