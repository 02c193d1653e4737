"""From a corpus to its profile: the run's folder, the shards that are left, and what the parts add up to."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2ln_cli.arguments import checked, refuse_without_effect
from gpt2ln_cli.checkpoint import DEFAULT_MODEL
from gpt2ln_cli.commands.profile import cluster, engine, manifest, parts
from gpt2ln_cli.commands.profile.against import published
from gpt2ln_cli.commands.profile.engine import Engine
from gpt2ln_cli.commands.profile.manifest import Manifest, Settings
from gpt2ln_cli.commands.profile.measured import Measured, measure, nothing
from gpt2ln_cli.commands.profile.meter import Meter
from gpt2ln_cli.commands.profile.options import Options
from gpt2ln_cli.commands.profile.record import Profile, Shards
from gpt2ln_cli.commands.profile.summarize import percents, summarize
from gpt2ln_cli.commands.profile.work import Job, Worker, computing_in
from gpt2ln_cli.errors import CheckpointError, PromptError, UsageError
from gpt2ln_cli.measure.flags import parameter_flags
from gpt2ln_cli.model import Model, as_model
from gpt2ln_cli.model.memory import make_room
from gpt2ln_cli.model.subject import Progress, tokens_in_a_pass
from gpt2ln_cli.paths import user_path
from gpt2ln_cli.text.corpus.documents import Bad, Document, Separator, grouped
from gpt2ln_cli.text.corpus.shards import LEAST_BYTES, cut_corpus
from gpt2ln_cli.text.corpus.sources import find
from gpt2ln_cli.text.corpus.windows import Documents

Say = Callable[[str], None]
# How often a run looks whether another one, which is at the last shards, has done with them.
WAIT_SECONDS = 1.0


@checked
def profile(
    sources: str | Path | Iterable[Any] | None = None,
    *,
    output: str | Path | None = None,
    model: str | Path | Model = DEFAULT_MODEL,
    separator: Separator = "line",
    documents: Documents = "each",
    column: str | None = None,
    bos: bool = False,
    limit_tokens: int | None = None,
    skip_bad: bool = False,
    top: int = 10,
    features: bool = False,
    quantiles: Sequence[float] = (),
    against: str | Path | None = None,
    batch_tokens: int | None = None,
    threads: int | None = None,
    workers: int = 1,
    shard: str | None = None,
    engine: Engine = "local",
    ray_address: str | None = None,
    worker_cpus: float | None = None,
    worker_gpus: float | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Run a corpus of any size and tell how each LayerNorm's quantities are distributed; ``gpt2ln profile``.

    Args:
        sources: with ``output``, files, folders, globs or addresses, or None for what is in the folder already; without
            it the texts themselves, which may come from anywhere and are read once.
        output: the folder of the run, which goes on where it was left.
        model: as for :func:`gpt2ln_cli.inspect`.
        separator: what ends a document of a text file: ``line``, ``blank``, ``endoftext`` or ``file``.
        documents: ``each`` begins at position 0, or they are ``packed`` with ``<|endoftext|>`` between.
        column: what holds the text in JSON lines and tables; None is ``text``.
        bos: begin every window with ``<|endoftext|>``.
        limit_tokens: take about so many tokens, whole documents from shards all over the corpus; None takes all.
        skip_bad: list what can't be read in the record; else it is an error.
        top: how many tokens to list of each ranking.
        features: also measure each feature of x and y at each site.
        quantiles: further ones, in percent.
        against: a table of published figures to hold it against, a JSON file, or ``published`` for the bundled one.
        batch_tokens: about how many padded tokens a forward pass has.
        threads: of each worker.
        workers: processes that work at it; 1 is this one.
        shard: ``"I/N"`` does the I-th of N shares of the work and leaves the others to other calls.
        engine: ``local`` processes, or ``ray``, which takes as many workers as its cluster has room for.
        ray_address: of the cluster, as ``ray.init`` takes it.
        worker_cpus: CPUs that a task of Ray's asks for; None is as many as its threads.
        worker_gpus: GPUs that it asks for; None is 1 where the model is on a GPU.
        progress: called with (tokens done, about how many in all).

    Raises:
        UsageError: an argument has no meaning, or the folder is of another run or can't be written to.
        CheckpointError: the checkpoint can't be found, read or trusted.
        PromptError: the corpus can't be read, or holds nothing.
    """
    options = Options(
        separator=separator,
        documents=documents,
        column=column,
        bos=bos,
        limit_tokens=limit_tokens,
        skip_bad=skip_bad,
        top=top,
        features=features,
        batch_tokens=batch_tokens,
        threads=threads,
        workers=workers,
        quantiles=quantiles,
        against=against,
        shard=shard,
        engine=engine,
        ray_address=ray_address,
        worker_cpus=worker_cpus,
        worker_gpus=worker_gpus,
    )
    if output is not None:
        files = None if sources is None else _names(sources)
        return profile_files(files, run_folder(output), model, options, progress)
    if sources is None or isinstance(sources, (str, Path)):
        raise UsageError("give output=, the folder of the run; without one, the texts themselves, as a list of them.")
    refuse_without_effect(
        "on texts that are handed over",
        limit_tokens=(limit_tokens, None),
        workers=(workers, 1),
        shard=(shard, None),
        engine=(engine, "local"),
        ray_address=(ray_address, None),
        worker_cpus=(worker_cpus, None),
        worker_gpus=(worker_gpus, None),
    )
    return profile_documents(_numbered(sources), ["texts"], model, options, progress)


def run_folder(given: str | Path) -> Path:
    """The folder of a run.

    Raises:
        UsageError: it is an address.
    """
    if "://" in str(given):
        raise UsageError(
            f"output '{given}' is an address: a run is kept in a folder, since its parts need locks and renames; give "
            "a folder that all workers see. What is read may be anywhere."
        )
    return user_path(given)


def profile_files(
    files: list[str] | None,
    folder: Path,
    model: str | Path | Model,
    options: Options,
    progress: Progress | None = None,
    say: Say = lambda _: None,
) -> Profile:
    """Do what is left of a run, and tell what all of its parts add up to.

    Args:
        files: the corpus; None does nothing but tell.
        folder: the run's.
        model: a name, or the model.
        options: how.
        progress: as for :func:`profile`.
        say: told what deserves a note, such as a part that is damaged.

    Raises:
        UsageError: as for :func:`profile`.
        CheckpointError: the same.
        PromptError: the same.
    """
    quantiles, figures = percents(options.quantiles), published(options.against)
    there = manifest.read(folder)
    if files is not None:
        there = _work(files, folder, there, model, options, progress, say)
    if there is None:
        raise UsageError(f"{folder} holds no run; give the corpus too.")
    measured, missing = nothing(there.settings), []
    for shard in range(len(there.cut.shards)):
        state = _state(folder, shard, there, say)
        if state is None:
            missing.append(shard)
        else:
            measured.merge(Measured.from_state(state))
    chosen = len(there.cut.shards)
    if len(missing) == chosen:
        raise UsageError(f"no part of the run in {folder} is done yet.")
    return summarize(
        there.settings,
        measured,
        sources=[source.name for source in there.sources],
        shards=Shards(of=there.cut.of, chosen=chosen, done=chosen - len(missing), missing=missing),
        bad=there.cut.bad,
        quantiles=quantiles,
        figures=figures,
    )


def profile_documents(
    documents: Iterable[Document | Bad],
    sources: list[str],
    model: str | Path | Model,
    options: Options,
    progress: Progress | None = None,
) -> Profile:
    """Profile documents that can be read but once, some megabytes at a time, as shards of a corpus are.

    Raises:
        UsageError: as for :func:`profile`.
        CheckpointError: the same.
        PromptError: the same.
    """
    quantiles, figures = percents(options.quantiles), published(options.against)
    loaded = as_model(model)
    settings = _settings(loaded, options, None)
    measured = nothing(settings)
    done = 0

    def report(tokens: int) -> None:
        nonlocal done
        done += tokens
        if progress is not None:
            progress(done, done)

    shards = 0
    with computing_in(settings.threads):
        for shard in grouped(documents, LEAST_BYTES):
            skip = options.skip_bad
            measured.merge(measure(shard, model=loaded, settings=settings, limit=None, skip_bad=skip, report=report))
            shards += 1
    return summarize(
        settings,
        measured,
        sources=sources,
        shards=Shards(of=shards, chosen=shards, done=shards, missing=[]),
        bad=[],
        quantiles=quantiles,
        figures=figures,
    )


def _work(
    files: list[str],
    folder: Path,
    there: Manifest | None,
    named: str | Path | Model,
    options: Options,
    progress: Progress | None,
    say: Say,
) -> Manifest:
    """Do the shards that are left."""
    options.check_engine()
    share = options.share()
    sources = find(files)
    model = as_model(named)
    settings = _settings(model, options, there)
    if there is None:
        cut = cut_corpus(
            sources,
            separator=options.separator,
            column=options.column,
            sampled=options.limit_tokens is not None,
            skip_bad=options.skip_bad,
        )
        there = manifest.settle(folder, Manifest(settings=settings, sources=sources, cut=cut))
        settings = _settings(model, options, there)
    manifest.check(folder, there, settings, sources)
    mine = range(len(there.cut.shards))[share]
    if not mine:
        raise UsageError(f"--shard {options.shard}: the run has {len(there.cut.shards):,} shards; give no greater N.")
    pending = [n for n in mine if _state(folder, n, there, say) is None]
    meter = Meter(there, pending, progress)
    job = Job(str(folder.absolute()), _how(model), options.skip_bad)
    gpus = options.worker_gpus if options.worker_gpus is not None else float(model.lazy_body.device.type == "cuda")
    worker = Worker(job, model) if options.workers == 1 and options.engine == "local" else None
    if not isinstance(named, Model):
        del model  # workers load their own
    with cluster.connected(options.ray_address) if options.engine == "ray" and pending else contextlib.nullcontext():
        while pending:
            if worker is not None:
                done = engine.in_this_process(worker, pending, meter.report)
            elif options.engine == "ray":
                cpus = there.settings.threads if options.worker_cpus is None else options.worker_cpus
                digest, report = there.digest, meter.report
                done = cluster.on_ray(job, digest, pending, cpus=cpus, gpus=gpus, report=report, say=say)
            else:
                done = engine.in_processes(job, pending, min(options.workers, len(pending)), meter.report)
            left = []
            for shard, tokens in done:
                if tokens is None:
                    left.append(shard)
                else:
                    meter.finish(shard, tokens)
            if len(left) == len(pending):
                time.sleep(WAIT_SECONDS)
            pending = left
    return there


def _settings(model: Model, options: Options, there: Manifest | None) -> Settings:
    """What this call measures, where it leaves something open as the run was begun."""
    if model.tokenizer is None:
        raise CheckpointError(f"{model.checkpoint.location} has no tokenizer, and a corpus is text.")
    body = model.lazy_body
    if options.engine == "ray":
        threads = max(1, int(options.worker_cpus or 1))
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = max(1, cores // options.workers)
    begun = None if there is None else there.settings
    batch_tokens = options.batch_tokens or (begun.batch_tokens if begun else tokens_in_a_pass(body))
    make_room(body, model.checkpoint, batch_tokens)
    return Settings(
        model=model.info,
        weights=manifest.weights_hash(model),
        tokenizer=manifest.tokenizer_hash(model),
        separator=options.separator,
        documents=options.documents,
        column=options.column,
        bos=options.bos,
        limit_tokens=options.limit_tokens,
        top=options.top,
        features=options.features,
        batch_tokens=batch_tokens,
        threads=options.threads or (begun.threads if begun else threads),
        environment=manifest.environment(str(body.device)),
        flags=parameter_flags(model.layer_norms()),
    )


def _how(model: Model) -> dict[str, Any]:
    """What loads the model once more, in another process."""
    checkpoint = model.checkpoint
    local = checkpoint.source in ("folder", "file")
    return {
        "model": str(user_path(checkpoint.name).absolute()) if local else checkpoint.name,
        "revision": None if local else checkpoint.revision,
        "heads": model.heads,
        "prefix": model.prefix,
        "device": model.lazy_body.device.type,
        "dtype": str(model.lazy_body.dtype).removeprefix("torch."),
    }


def _state(folder: Path, shard: int, there: Manifest, say: Say) -> Any:
    """What is in a shard's part; None where it is not there, or damaged."""
    try:
        return parts.read(folder, shard, there.digest)
    except ValueError as error:
        say(f"{parts.path_of(folder, shard)} is damaged ({error}) and counts as not done.")
        return None


def _names(sources: str | Path | Iterable[Any]) -> list[str]:
    names = [sources] if isinstance(sources, (str, Path)) else list(sources)
    for name in names:
        if not isinstance(name, (str, Path)):
            raise UsageError(f"source {name!r}: give files, folders, globs or addresses.")
    return list(map(str, names))


def _numbered(texts: Iterable[Any]) -> Iterator[Document]:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"text {number} is {text!r}: give a list of texts.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptError(f"text {number} is not valid (character {error.start} is half of a pair).") from error
        yield Document("texts", number, text)
