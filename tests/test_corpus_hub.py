"""A corpus on a hub: found by glob, read by range, and refused when it changes."""

from __future__ import annotations

import random
import shutil

import huggingface_hub
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer, Repository

import gpt2ln_cli
from gpt2ln_cli.app import main
from gpt2ln_cli.checkpoint import BUNDLED
from gpt2ln_cli.errors import PromptError, UsageError
from gpt2ln_cli.text.corpus import shards
from gpt2ln_cli.text.corpus.shards import Reader, cut_corpus
from gpt2ln_cli.text.corpus.sources import find

REPO = "datasets/owner/corpus"
FILES = ("data/b.parquet", "data/en/a.parquet")
GROUPS, ROWS = 12, 50
WORDS = ["war", "was", "over", "hate", "fear", "and", "of"]
# What pyarrow fetches to find a footer, and the greatest hole between two chunks that it reads with them.
FOOTER, HOLE = 65_536, 8_192


def write(path, seed):
    """Texts, beside a column of noise that is some fifty times as large."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=12)) for _ in range(GROUPS * ROWS)]
    table = pa.table({"id": range(len(texts)), "noise": [draw.randbytes(2500) for _ in texts], "body": texts})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=ROWS, use_dictionary=False, compression="none")


def chunks(path):
    """How many bytes the texts of each row group have in their file."""
    metadata = pq.ParquetFile(path).metadata
    return [metadata.row_group(group).column(2).total_compressed_size for group in range(metadata.num_row_groups)]


@pytest.fixture
def folder(tmp_path):
    for seed, file in enumerate(FILES):
        write(tmp_path / "repository" / file, seed)
    (tmp_path / "repository" / "data" / "readme.md").write_text("no corpus")
    return tmp_path / "repository"


@pytest.fixture
def hub(folder, monkeypatch):
    with HubServer() as server:
        server.repositories[REPO] = Repository(folder)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        huggingface_hub.HfFileSystem.clear_instance_cache()
        yield server
    huggingface_hub.HfFileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def tiny(make_folder):
    made = make_folder(vocab_size=gpt2ln_cli.load("demo").checkpoint.config.vocab_size, n_positions=64)
    shutil.copy(BUNDLED["demo"] / "tokenizer.json", made)
    return made


def test_parquet_is_read_by_range(hub, folder, tiny, tmp_path):
    """A profile of it is that of the same files here, and little more was sent than the texts."""

    def run(corpus, name):
        return gpt2ln_cli.profile(corpus, output=tmp_path / name, model=tiny, column="body", threads=1)

    there, here = run([f"hf://{REPO}/**/*.parquet"], "there"), run([folder / file for file in FILES], "here")
    assert there.corpus.sources == [f"hf://{REPO}/{file}" for file in FILES]
    assert there.corpus.documents == len(FILES) * GROUPS * ROWS
    for site, other in zip(there.sites, here.sites, strict=True):
        assert msgspec.structs.replace(site, top=None) == msgspec.structs.replace(other, top=None)
    for file in FILES:
        needed = sum(chunks(folder / file))
        # The footer twice, when the corpus is cut and when it is read.
        assert needed < hub.sent[file] <= needed + 2 * FOOTER + GROUPS * HOLE
        assert hub.sent[file] < (folder / file).stat().st_size / 4


def test_a_shard_fetches_its_row_groups_alone(hub, folder, monkeypatch):
    monkeypatch.setattr(shards, "LEAST_BYTES", 1)  # each row group is one
    (source,) = find([f"hf://{REPO}/data/b.parquet"])
    cut = cut_corpus([source], separator="line", column="body", sampled=False, skip_bad=False)
    assert len(cut.shards) == GROUPS
    assert hub.sent[FILES[0]] <= FOOTER
    reader = Reader([source], separator="line", column="body")
    texts = pq.read_table(folder / FILES[0]).column("body").to_pylist()
    for number in (7, 8):
        hub.forget()
        found = list(reader.read(cut.shards[number]))
        assert [(one.offset, one.text) for one in found] == list(enumerate(texts))[number * ROWS : (number + 1) * ROWS]
        footer = FOOTER if number == 7 else 0  # it is kept
        assert hub.sent[FILES[0]] <= footer + chunks(folder / FILES[0])[number]
    reader.close()


@pytest.mark.usefixtures("hub")
def test_what_changes_under_way_is_refused(folder, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "LEAST_BYTES", 1)
    address, seen = f"hf://{REPO}/data/b.parquet", []

    def run(**options):
        gpt2ln_cli.profile(address, output=tmp_path / "run", model=tiny, column="body", threads=1, **options)

    def change(*_):
        seen.append(True)
        if len(seen) == 3:
            write(folder / FILES[0], 9)

    with pytest.raises(PromptError, match=r"b\.parquet has changed since the run began"):
        run(progress=change)
    # The third shard may have been read to its end by then.
    assert len(list((tmp_path / "run" / "parts").glob("*.part"))) in (2, 3)
    with pytest.raises(UsageError, match=r"the corpus: hf://.*b\.parquet has changed since"):
        run()


@pytest.mark.usefixtures("hub")
def test_a_shard_that_changes_while_it_is_read_is_refused(folder):
    (source,) = find([f"hf://{REPO}/data/b.parquet"])
    cut = cut_corpus([source], separator="line", column="body", sampled=False, skip_bad=False)
    reader = Reader([source], separator="line", column="body")
    documents = reader.read(cut.shards[0])
    next(documents)
    write(folder / FILES[0], 9)
    with pytest.raises(PromptError, match=r"b\.parquet has changed since the run began"):
        list(documents)
    reader.close()


@pytest.mark.usefixtures("hub")
def test_what_is_not_there_is_told_in_a_line(tiny, capsys):
    for address, said in (
        (f"hf://{REPO}/data/none.parquet", "none.parquet"),
        (f"hf://{REPO}/data/*.jsonl", "no corpus in"),
        ("hf://datasets/owner/none/*.parquet", "can't read hf://datasets/owner/none/*.parquet"),
        ("hf://", "can't read hf://"),
        ("nowhere://a/b.txt", "can't read nowhere://a/b.txt"),
        (f"hf://{REPO}/data/b.parquet", "no column 'text'; it has id, noise, body"),
    ):
        assert main(["profile", address, "-m", str(tiny)]) == 4
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_hub_that_is_gone_is_no_fault_of_a_file(hub, tiny, monkeypatch, capsys):
    """Found and then refused; and not to be reached at all: neither is left out as damaged."""
    words = ["profile", f"hf://{REPO}/**/*.parquet", "--column", "body", "--skip-bad", "-m", str(tiny)]
    hub.repositories[REPO].status["*"] = 403
    assert main(words) == 4
    assert f"can't read hf://{REPO}/{FILES[0]}: " in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    huggingface_hub.HfFileSystem.clear_instance_cache()
    assert main(words) == 4
    assert f"can't read hf://{REPO}/**/*.parquet: " in capsys.readouterr().err.splitlines()[-1]
