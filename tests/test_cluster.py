"""Shares of an array job and tasks of a Ray cluster give the bytes of a run in one process."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time

import msgspec
import pytest

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.commands.profile import cluster, manifest
from gpt2ln_cli.commands.profile.work import Job, Worker
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.text.corpus import shards

WORDS = "war violence hate fear the of and , . ok hatred was not over but then she said it would be so"
SMALL = 1000
# Enough that a node is at work when it is lost.
DOCUMENTS = 600


@pytest.fixture(scope="module")
def tiny(make_folder):
    folder = make_folder(vocab_size=gpt2ln_cli.load("demo").checkpoint.config.vocab_size, n_positions=64)
    shutil.copy(BUNDLED["demo"] / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Documents of 1 to 40 words, so that batches have every shape."""
    draw = random.Random(5)
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join(" ".join(draw.choices(WORDS.split(), k=draw.randint(1, 40))) for _ in range(DOCUMENTS)))
    return path


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "LEAST_BYTES", SMALL)
        yield


@pytest.fixture(scope="module")
def run(tiny, corpus):
    def go(folder, **options):
        fixed = {"threads": 1, "batch_tokens": 300, "model": tiny}
        return gpt2ln_cli.profile([corpus], output=folder, **{**fixed, **options})

    return go


@pytest.fixture(scope="module")
def local(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("local") / "run"
    return run(folder), folder


def numbers(record):
    """All but how long it took."""
    return msgspec.json.encode(msgspec.structs.replace(record, speed=None))


@pytest.mark.slow
def test_shares_of_an_array_job_add_up_to_the_run(run, local, tmp_path, capsys):
    folder = tmp_path / "run"
    of = local[0].shards.of
    assert of > 20
    second = run(folder, shard="2/3")
    assert second.shards.missing == [number for number in range(of) if number % 3 != 1]
    assert main(["profile", "--output", str(folder)]) == 0
    missing = len(second.shards.missing)
    assert f"{missing} of {of} shards are not done yet" in " ".join(capsys.readouterr().out.split())
    run(folder, shard="3/3")
    assert numbers(run(folder, shard="1/3")) == numbers(local[0])
    assert numbers(gpt2ln_cli.profile(None, output=folder)) == numbers(local[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "3"], "shard '3': give I/N"),
        (["--shard", "0/2"], "shard '0/2': give I/N"),
        (["--shard", "3/2"], "shard '3/2': give I/N"),
        (["--shard", "9000/9000"], "give no greater N"),
        (["--ray-address", "auto"], "ray_address has no effect without the engine ray"),
        (["--worker-cpus", "1", "--worker-gpus", "1"], "worker_cpus and worker_gpus have no effect without"),
        (["--engine", "ray", "--workers", "2"], "workers has no effect with the engine ray"),
    ],
)
def test_what_has_no_meaning_is_refused(corpus, tiny, tmp_path, capsys, words, said):
    folder = tmp_path / "run"
    assert main(["profile", str(corpus), "--output", str(folder), "-m", str(tiny), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_share_needs_a_corpus_and_a_folder(corpus, tmp_path, capsys):
    for words in ([str(corpus)], ["--output", str(tmp_path)]):
        assert main(["profile", *words, "--shard", "1/2"]) == 2
        assert "give a corpus and --output" in capsys.readouterr().err
    assert main(["profile", str(corpus), "--engine", "ray"]) == 2
    assert "--engine ray needs --output" in capsys.readouterr().err
    assert main(["profile", "-", "--shard", "1/2"]) == 2
    assert "no effect on standard input" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["s3://bucket/run", "hf://datasets/owner/name/run", "memory://run"])
def test_no_run_is_kept_at_an_address(corpus, tiny, capsys, monkeypatch, tmp_path, address):
    monkeypatch.chdir(tmp_path)
    assert main(["profile", str(corpus), "--output", address, "-m", str(tiny)]) == 2
    assert f"output '{address}' is an address" in capsys.readouterr().err
    with pytest.raises(UsageError, match="is an address"):
        gpt2ln_cli.profile([corpus], output=address, model=tiny)
    assert list(tmp_path.iterdir()) == []


def test_without_ray_it_is_said_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r'needs ray: pip install "\.\[ray\]"'):
        run(tmp_path / "run", engine="ray")


def of_another_environment(folder, tmp_path):
    """The run as if it had been begun with another torch, and what a worker of it knows."""
    found = manifest.read(folder)
    settings = found.settings
    other = msgspec.structs.replace(settings, environment={**settings.environment, "torch": "9.9"})
    there = manifest.settle(tmp_path / "other", msgspec.structs.replace(found, settings=other))
    return there.digest, Job(str(tmp_path / "other"), {"model": settings.model.name, "device": "cpu"}, False)


def test_a_worker_of_another_environment_is_refused(local, tiny, tmp_path):
    _, job = of_another_environment(local[1], tmp_path)
    with pytest.raises(UsageError, match=r"a worker on .* would give other numbers than the run's: torch: 9\.9 there"):
        Worker(job, gpt2ln_cli.load(tiny))


@pytest.fixture(scope="module")
def nodes():
    """A Ray of two nodes, one of which may be removed."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray.cluster_utils import Cluster

        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        other = found.add_node(num_cpus=1)
        yield found, other
        ray.shutdown()
        found.shutdown()


@pytest.mark.slow
def test_a_lost_node_changes_no_byte(run, local, nodes, tmp_path):
    import ray
    from ray._private.state import available_resources_per_node
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    found, lost = nodes
    ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")

    @ray.remote(num_cpus=1)
    def warm():
        """So that both nodes are at work from the beginning, whatever importing takes."""
        import gpt2ln_cli

        gpt2ln_cli.load("demo")

    each = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes()]
    assert len(each) == 2
    ray.get([warm.options(scheduling_strategy=one).remote() for one in each])
    removed = []

    def remove(done, total):
        if not removed and done > total / 3:
            deadline = time.monotonic() + 30
            while available_resources_per_node()[lost.node_id].get("CPU") and time.monotonic() < deadline:
                time.sleep(0.001)
            removed.append(len(list((tmp_path / "run" / "parts").glob("*.part"))))
            found.remove_node(lost, allow_graceful=False)

    record = run(tmp_path / "run", engine="ray", progress=remove)
    assert numbers(record) == numbers(local[0])
    assert 0 < removed[0] < record.shards.of
    deadline = time.monotonic() + 60  # until the cluster notices, too
    while all(node["Alive"] for node in ray.nodes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted(node["Alive"] for node in ray.nodes()) == [False, True]
    ray.shutdown()


@pytest.mark.slow
def test_the_command_line_finds_a_cluster(corpus, tiny, local, nodes, tmp_path):
    """With what Ray takes to be one's fault told in a line."""
    found, _ = nodes
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(local[1] / "manifest.json", folder)
    words = [sys.executable, "-m", "gpt2ln_cli", "profile", str(corpus), "--output", str(folder), "-m", str(tiny)]
    words += ["--engine", "ray", "--worker-cpus", "0.5", "--json"]

    def go(address):
        done = subprocess.run([*words, "--ray-address", address], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, out, error = go(found.address)
    assert code == 0, error
    assert {**json.loads(out), "speed": None} == {**msgspec.to_builtins(local[0]), "speed": None}
    shutil.rmtree(folder / "parts")
    code, _, error = go("nonsense")
    assert code == 2
    assert "there is no Ray cluster to be reached at 'nonsense'" in error
    digest, job = of_another_environment(local[1], tmp_path)
    job.model["model"] = str(tiny)
    with cluster.connected(found.address), pytest.raises(UsageError, match=r"torch: 9\.9 there"):
        list(cluster.on_ray(job, digest, [0], cpus=1, gpus=0, report=print, say=print))
    with cluster.connected(found.address):
        begun = cluster.on_ray(job, digest, [0], cpus=999, gpus=2, report=print, say=pytest.fail)
        with pytest.raises(pytest.fail.Exception, match="no node of the Ray cluster has 999 CPUs and 2 GPUs"):
            next(begun)
        with pytest.raises(UsageError, match=r"Ray places no task with 1 CPUs and 1\.5 GPUs"):
            next(cluster.on_ray(job, digest, [0], cpus=1, gpus=1.5, report=print, say=print))
