"""A profile is NumPy's on the rows of ``inspect``, and the same to the last byte however it came about."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.commands.profile import compute, engine, parts
from gpt2ln_cli.commands.profile.measured import ahead
from gpt2ln_cli.errors import CheckpointError, PromptError, UsageError
from gpt2ln_cli.measure.distributions import band_of
from gpt2ln_cli.measure.sketch import RELATIVE_ERROR
from gpt2ln_cli.measure.tops import RANKED
from gpt2ln_cli.quantities import QUANTITIES
from gpt2ln_cli.text.corpus import shards

WORDS = "war violence hate fear the of and , . ok hatred was not over but then she said it would be so"
GPT2LN = [sys.executable, "-m", "gpt2ln_cli"]


def made_up(count, seed=0, most=40):
    """Documents of 1 to 40 words, so that batches have every shape."""
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS.split(), k=generator.randint(1, most))) for _ in range(count)]


@pytest.fixture(scope="module")
def tiny(make_folder):
    """Two blocks, with the tokenizer of the demo."""
    folder = make_folder(vocab_size=gpt2ln_cli.load("demo").checkpoint.config.vocab_size, n_positions=64)
    shutil.copy(BUNDLED["demo"] / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="module")
def run(tiny):
    def go(corpus, folder, **options):
        return gpt2ln_cli.profile(
            [corpus], output=folder, **{"threads": 1, "batch_tokens": 300, "model": tiny, **options}
        )

    return go


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join(made_up(90)))
    return path


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "LEAST_BYTES", 2000)


def numbers(record):
    """All but how long it took."""
    return msgspec.json.encode(msgspec.structs.replace(record, speed=None))


@pytest.fixture(scope="module")
def undisturbed(run, corpus, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "LEAST_BYTES", 2000)
        folder = tmp_path_factory.mktemp("undisturbed") / "run"
        return run(corpus, folder), folder


def columns_of(texts, *, model):
    """All numbers of ``inspect --per-token``, in the very batches, and each token's place."""
    record = gpt2ln_cli.inspect(texts, per_token=True, model=model, batch_tokens=300)
    sequence = np.concatenate([np.full(prompt.length, prompt.index) for prompt in record.prompts])
    position = np.concatenate([np.arange(prompt.length) for prompt in record.prompts])
    return record, sequence, position


def check_distribution(found, values):
    assert (found.tokens, found.nonfinite) == (len(values), 0)
    assert (found.min, found.max) == (values.min(), values.max())
    # What no sum of doubles can tell: some units in the last place of the values themselves.
    unit = 8 * np.finfo(np.float64).eps * np.abs(values).max()
    sigma = values.astype(np.longdouble).std()
    assert abs(found.mean - values.astype(np.longdouble).mean()) <= 1e-9 * sigma + unit
    assert abs(found.std - sigma) <= 1e-9 * sigma + unit
    assert found.rms == pytest.approx(float(np.sqrt((values**2).mean())), rel=1e-12)
    for percent, quantile in found.quantiles.items():
        expected = np.quantile(values, float(percent) / 100, method="lower")
        assert abs(quantile - expected) <= RELATIVE_ERROR * (1 + 1e-9) * abs(expected)


def test_a_profile_is_numpy_on_the_rows_of_inspect(tiny):
    texts = made_up(60, seed=1)
    with_threads = torch.get_num_threads()
    record = gpt2ln_cli.profile(texts, model=tiny, threads=1, batch_tokens=300, top=4, quantiles=[33.3])
    assert torch.get_num_threads() == with_threads
    rows, sequence, position = columns_of(texts, model=tiny)
    assert record.counts == rows.counts
    assert record.corpus.tokens == record.counts.tokens == len(position)
    assert record.corpus.documents == record.corpus.windows == 60
    bands = np.array([band_of(int(one)) for one in position])
    assert "33.3" in record.sites[0].rest.sigma.quantiles
    for number, site in enumerate(record.sites):
        assert site.statistics == len(position)
        assert [(band.first, band.last) for band in site.bands[:4]] == [(0, 0), (1, 1), (2, 3), (4, 7)]
        for quantity in QUANTITIES:
            column = rows.rows.column(number, quantity)
            check_distribution(getattr(site.first, quantity), column[position == 0])
            check_distribution(getattr(site.rest, quantity), column[position > 0])
            for band, each in enumerate(site.bands):
                check_distribution(getattr(each, quantity), column[bands == band])
        for quantity in RANKED:
            column = rows.rows.column(number, quantity)
            expected = []
            for chosen in (position == 0, position > 0):
                places = np.flatnonzero(chosen)
                order = places[np.lexsort((places, -column[places]))][:4]
                expected += [(column[one], int(sequence[one]), int(position[one])) for one in order]
            found = getattr(site.top, quantity)
            assert [one.value for one in found] == sorted((one.value for one in found), reverse=True)
            assert sorted((one.value, one.offset, one.position) for one in found) == sorted(expected)
            for one in found:
                tokens = rows.prompts[one.offset].tokens
                assert one.token == tokens[one.position]
                assert one.around == "".join(tokens[max(0, one.position - 5) : one.position + 6])


def test_merged_shards_are_numpy_on_all_rows(corpus, tiny, undisturbed):
    """Each shard by itself in the same batches, and then all their numbers at once."""
    record, folder = undisturbed
    shards_of = json.loads((folder / "manifest.json").read_text())["cut"]["shards"]
    assert record.shards.of == record.shards.done == len(shards_of) > 3
    content = corpus.read_bytes()
    runs = [
        columns_of(content[begin:end].decode().rstrip("\n").split("\n"), model=tiny)
        for ((_, begin, end, _),) in shards_of
    ]
    position = np.concatenate([position for *_, position in runs])
    for number, site in enumerate(record.sites):
        for quantity in QUANTITIES:
            column = np.concatenate([rows.rows.column(number, quantity) for rows, *_ in runs])
            check_distribution(getattr(site.first, quantity), column[position == 0])
            check_distribution(getattr(site.rest, quantity), column[position > 0])


@pytest.mark.slow
def test_two_workers_give_the_same_bytes(run, corpus, undisturbed, tmp_path):
    assert numbers(run(corpus, tmp_path / "run", workers=2)) == numbers(undisturbed[0])


def test_a_run_goes_on_where_it_was_stopped(run, corpus, undisturbed, tmp_path, monkeypatch):
    """In the midst of a shard; and what is left behind is taken over."""
    stopping = itertools.count()

    def stop(done, total):
        assert done <= total
        if next(stopping) == 12:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(corpus, folder, progress=stop)
    done = sorted(path.name for path in (folder / "parts").glob("*.part"))
    assert 0 < len(done) < undisturbed[0].shards.of
    shown = gpt2ln_cli.profile(None, output=folder)
    assert shown.shards.done == len(done)
    assert shown.shards.missing == list(range(len(done), shown.shards.of))
    (folder / "parts" / f"{len(done):06}.partial").write_bytes(b"half of")
    assert numbers(run(corpus, folder)) == numbers(undisturbed[0])
    assert [path.name for path in (folder / "parts").iterdir() if path.suffix != ".part"] == []
    monkeypatch.setattr(compute, "Worker", None)  # nothing is left to do
    with pytest.raises(TypeError):
        run(corpus, folder)
    assert numbers(gpt2ln_cli.profile(None, output=folder)) == numbers(undisturbed[0])


@pytest.mark.parametrize("damage", ["byte", "cut", "empty", "other"])
def test_a_damaged_part_is_found_and_done_again(run, corpus, undisturbed, tmp_path, capsys, damage):
    folder = tmp_path / "run"
    first = run(corpus, folder)
    path = parts.path_of(folder, 1)
    content = bytearray(path.read_bytes())
    if damage == "other":
        content = bytearray(parts.path_of(folder, 2).read_bytes())
    elif damage == "byte":
        content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content[: {"cut": 1000, "empty": 0}.get(damage, len(content))]))
    assert main(["profile", "--output", str(folder), "--json"]) == 0
    said = capsys.readouterr()
    assert f"{path} is damaged" in said.err
    assert json.loads(said.out)["shards"]["missing"] == [1]
    assert numbers(run(corpus, folder)) == numbers(first) == numbers(undisturbed[0])


def test_a_full_disk_loses_no_finished_part(run, corpus, undisturbed, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    plain, calls = os.fsync, itertools.count()

    def full(descriptor):
        if next(calls) >= 5:  # the manifest, and two parts with their folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"can't write .*000002\.part: No space left on device; what is done is kept"):
        run(corpus, folder)
    monkeypatch.setattr(os, "fsync", plain)
    assert sorted(path.name for path in (folder / "parts").iterdir()) == ["000000.part", "000001.part"]
    assert numbers(run(corpus, folder)) == numbers(undisturbed[0])


OTHERS = {
    "bos": ({"bos": True}, "--bos: not given there, given here"),
    "documents": ({"documents": "packed"}, "--documents: each there, packed here"),
    "separator": ({"separator": "blank"}, "--separator: line there, blank here"),
    "limit": ({"limit_tokens": 5}, "--limit-tokens: none there, 5 here"),
    "top": ({"top": 3}, "--top: 10 there, 3 here"),
    "batches": ({"batch_tokens": 200}, "--batch-tokens: 300 there, 200 here"),
    "threads": ({"threads": 2}, "--threads: 1 there, 2 here"),
    "dtype": ({"dtype": "bfloat16"}, "(bfloat16) here"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_folder_of_another_run_is_refused(run, tiny, corpus, undisturbed, case):
    options, said = OTHERS[case]
    if "dtype" in options:
        options = {"model": gpt2ln_cli.load(tiny, **options)}
    with pytest.raises(UsageError) as error:
        run(corpus, undisturbed[1], **options)
    assert said in str(error.value)


def test_a_run_of_another_version_is_refused(run, corpus, undisturbed, monkeypatch):
    monkeypatch.setattr("gpt2ln_cli.commands.profile.manifest.__version__", "9.9")
    with pytest.raises(UsageError, match=r"gpt2ln: .* there, 9\.9 here"):
        run(corpus, undisturbed[1])


def test_another_corpus_is_refused(run, corpus, tmp_path):
    mine, folder = tmp_path / "mine.txt", tmp_path / "run"
    mine.write_text("one\ntwo\n")
    run(mine, folder)
    with pytest.raises(UsageError, match=r"mine\.txt is missing; the corpus: .*corpus\.txt is new"):
        run(corpus, folder)
    mine.write_text("one\nother\n")
    with pytest.raises(UsageError, match=r"the corpus: .*mine\.txt has changed since"):
        run(mine, folder)


def test_a_source_that_changes_under_way_is_refused(run, corpus, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text(corpus.read_text())

    def change(done, _):
        if done > 400:
            mine.write_text("other")

    with pytest.raises(PromptError, match=r"mine\.txt has changed since the run began"):
        run(mine, tmp_path / "run", progress=change)


@pytest.mark.slow
def test_a_worker_of_another_model_is_refused(run, tiny, corpus, tmp_path):
    model = gpt2ln_cli.load(tiny)
    with torch.no_grad():
        model.body.ln_f.weight[3] += 1e-3
    with pytest.raises(CheckpointError, match="is another model than the run was begun with"):
        run(corpus, tmp_path / "run", model=model, workers=2)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"fine\n\xff\xfe\n", "a.txt, line 2: not UTF-8 text"),
        (
            "a.jsonl",
            b'{"text": "fine"}\n{"text": 3}\n',
            "a.jsonl, line 2: not a JSON object with a string under 'text'",
        ),
        ("a.txt.gz", b"\x1f\x8b\x08\x00", "a.txt.gz: damaged or cut short"),
        ("a.txt", b"", "a.txt: the file is empty"),
        ("a.parquet", b"PAR1", "a.parquet: damaged or cut short"),
    ],
)
def test_bad_input_ends_with_code_4_or_is_listed(tmp_path, tiny, capsys, name, content, said):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "b.txt").write_text("the war was over\n")
    words = [
        "profile",
        str(tmp_path / name),
        str(tmp_path / "b.txt"),
        "--output",
        str(tmp_path / "run"),
        "-m",
        str(tiny),
    ]
    assert main([*words, "--threads", "1"]) == 4
    assert said in (error := capsys.readouterr().err)
    assert error.count("\n") == 1
    assert main([*words, "--threads", "1", "--skip-bad", "--json"]) == 0
    (bad,) = json.loads(capsys.readouterr().out)["corpus"]["bad"]
    assert said in f"{bad['source']}{', ' if bad['place'] else ''}{bad['place']}: {bad['reason']}"
    assert main(["profile", "--output", str(tmp_path / "run")]) == 0
    assert "left out:" in capsys.readouterr().out


def test_packed_windows_are_full_but_the_last(tiny):
    texts = made_up(80, seed=3)
    record = gpt2ln_cli.profile(texts, model=tiny, documents="packed", threads=1, top=1)
    assert record.counts.tokens == record.corpus.tokens + len(texts) - 1
    assert record.corpus.windows == -(-record.counts.tokens // 64)
    assert record.sites[0].first.tokens == record.corpus.windows


def test_a_limit_takes_a_share_of_each_shard(run, corpus, undisturbed, tmp_path):
    record = run(corpus, tmp_path / "run", limit_tokens=100)
    each = -(-100 // record.shards.chosen)
    assert record.corpus.limit_tokens == 100
    assert 100 <= record.corpus.tokens < 100 + 60 * record.shards.chosen
    assert record.corpus.tokens < undisturbed[0].corpus.tokens
    assert each > 0


def test_what_has_no_meaning_is_refused(tmp_path):
    for call, said in (
        (lambda: gpt2ln_cli.profile(), "give output="),
        (lambda: gpt2ln_cli.profile("corpus.txt"), "give output="),
        (lambda: gpt2ln_cli.profile(["a"], workers=2), "workers has no effect on texts"),
        (lambda: gpt2ln_cli.profile(["a", 3]), "text 1 is 3"),
        (lambda: gpt2ln_cli.profile(["a"], quantiles=[101]), "0 to 100"),
        (lambda: gpt2ln_cli.profile(["a"], separator="word"), "none of line, blank"),
        (lambda: gpt2ln_cli.profile([3], output=tmp_path), "source 3"),
        (lambda: gpt2ln_cli.profile(None, output=tmp_path), "holds no run"),
    ):
        with pytest.raises(UsageError, match=said):
            call()
    with pytest.raises(PromptError, match="no token"):
        gpt2ln_cli.profile(["", " "])
    for words, said in (
        (["-", "a.txt"], "alone"),
        (["-", "--workers", "2"], "no effect on standard input"),
    ):
        assert main(["profile", *words]) == 2, said


def test_standard_input_is_the_same_corpus(corpus, tiny, monkeypatch, capsys):
    """Of one shard, so that batches are the same."""
    texts = corpus.read_text().split("\n")[:20]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode())))
    assert main(["profile", "-", "--threads", "1", "--json", "-m", str(tiny)]) == 0
    record = json.loads(capsys.readouterr().out)
    expected = msgspec.to_builtins(gpt2ln_cli.profile(texts, model=tiny, threads=1))
    assert record["corpus"]["sources"] == ["standard input"]
    assert [site["rest"] for site in record["sites"]] == [site["rest"] for site in expected["sites"]]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\n\xff\n")))
    assert main(["profile", "-", "--threads", "1", "-m", str(tiny)]) == 4
    assert "standard input, line 2: not UTF-8" in capsys.readouterr().err


def test_every_format_shows_it(undisturbed):
    record, _ = undisturbed
    shown = gpt2ln_cli.view(record)
    for name in ("table", "markdown", "html", "ndjson", "json"):
        stream = io.StringIO()
        output.write(shown, name, stream)
        assert "h.1.ln_2" in stream.getvalue()
    stream = io.StringIO()
    output.write(shown, "csv", stream)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert len(rows) == sum((2 + len(site.bands)) * len(QUANTITIES) for site in record.sites)
    chosen = next(r for r in rows if (r["site"], r["part"], r["quantity"]) == ("h.1.ln_2", "rest", "sigma"))
    sigma = record.sites[3].rest.sigma
    assert float(chosen["rms"]) == sigma.rms
    assert float(chosen["q99.9"]) == sigma.quantiles["99.9"]
    band = record.sites[3].bands[2]
    assert json.loads(msgspec.json.encode(band))["from"] == band.first == 2


def test_a_thread_makes_items_ahead_and_tells_its_error():
    def items():
        yield from range(5)
        raise ValueError("of the source")

    found = []
    with pytest.raises(ValueError, match="of the source"):
        found.extend(ahead(items(), 2))
    made = []
    for item in ahead((made.append(number) or number for number in itertools.count()), 2):
        if item == 3:
            break
    time.sleep(0.05)
    assert len(made) <= 8


def test_a_run_shares_its_shards_with_another(run, corpus, undisturbed, tmp_path, monkeypatch):
    """What one is at, another leaves to it, until it is done or gone."""
    folder = tmp_path / "run"
    run(corpus, folder, limit_tokens=None)
    digest = compute.manifest.read(folder).digest
    parts.path_of(folder, 1).unlink()
    monkeypatch.setattr(compute, "WAIT_SECONDS", 0.01)
    claim = parts.claimed(folder, 1, digest)
    assert claim.__enter__() is not None
    waited = []

    def wait(_):
        waited.append(True)
        if len(waited) == 3:
            claim.__exit__(None, None, None)

    monkeypatch.setattr(compute.time, "sleep", wait)
    assert numbers(run(corpus, folder)) == numbers(undisturbed[0])
    assert len(waited) == 3


@pytest.mark.slow
def test_workers_that_die_again_and_again_are_told():
    class Job:
        """Nothing that could be unpickled there."""

        def __reduce__(self):
            return os._exit, (7,)

    with pytest.raises(UsageError, match=r"3 workers ended one after the other \(the last with code 7\)"):
        list(engine.in_processes(Job(), [0, 1], 1, lambda _: None))


def begin(run, corpus, folder):
    """The manifest of a run of many small shards, of which none is done."""

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(corpus, folder, progress=stop)


def command(corpus, folder, tiny, workers):
    words = [
        *GPT2LN,
        "profile",
        str(corpus),
        "--output",
        str(folder),
        "--workers",
        str(workers),
        "-m",
        str(tiny),
        "--json",
    ]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_kill_at_any_moment(run, tiny, corpus, undisturbed, tmp_path, victim):
    """A killed worker is replaced; of a killed parent nothing stays, and the same command goes on."""
    folder = tmp_path / "run"
    begin(run, corpus, folder)
    generator = random.Random(victim)
    for _ in range(3):
        # Something is always left to do: else it would have no workers, and write to a pipe that nobody reads.
        for path in sorted((folder / "parts").glob("*.part"))[:1]:
            path.unlink()
        process = command(corpus, folder, tiny, 2)
        while process.poll() is None and not children(process.pid):
            time.sleep(0.05)
        time.sleep(5 * generator.random())
        workers = children(process.pid)
        if victim == "worker":
            for pid in workers[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _, error = process.communicate(timeout=120)
            assert process.returncode == 0, error
            for path in (folder / "parts").glob("*.part"):
                path.unlink()
        else:
            process.kill()
            process.communicate()
            deadline = time.monotonic() + 20
            while any(Path(f"/proc/{pid}").exists() for pid in workers):
                assert time.monotonic() < deadline, "a worker outlived its parent"
                time.sleep(0.1)
    process = command(corpus, folder, tiny, 3)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    found = {**json.loads(out), "speed": None}
    assert found == {**json.loads(numbers(undisturbed[0])), "speed": None}


@pytest.mark.slow
def test_two_runs_at_once(run, tiny, corpus, undisturbed, tmp_path):
    folder = tmp_path / "run"
    begin(run, corpus, folder)
    both = [command(corpus, folder, tiny, 1) for _ in range(2)]
    for process in both:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        assert {**json.loads(out), "speed": None} == json.loads(numbers(undisturbed[0]))
