"""One token through one LayerNorm, step by step: the numbers, the bars and the figure."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import raw_states

import gpt2ln_cli
from gpt2ln_cli import output
from gpt2ln_cli.app import main
from gpt2ln_cli.commands.plot import figures as plots
from gpt2ln_cli.commands.plot.compute import steps
from gpt2ln_cli.commands.plot.view import bars, panels
from gpt2ln_cli.errors import PromptError, UsageError

EPS32 = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def two(demo):
    return steps(["ok", "hatred"], layers=6, model=demo)


def test_single_words_are_carried_and_their_last_tokens_taken(demo, two):
    assert two.template == "The word was {}."
    texts = [prompt.text for prompt in two.prompts]
    assert texts == ["The word was ok.", "The word was hatred."]
    for step, prompt, word in zip(two.steps, two.prompts, ("ok", "hatred"), strict=True):
        row = step.vectors
        assert step.prompt == word
        assert prompt.tokens[row.position] == row.token
        assert word.endswith(row.token.strip())
        assert prompt.tokens[row.position + 1] == "."
    whole = steps(["ok", "hatred"], layers=6, model=demo, template="{}")
    assert [step.vectors.position for step in whole.steps] == [prompt.length - 1 for prompt in whole.prompts]
    assert whole.template is None
    first = steps(["the war was over"], layers=6, model=demo, position=0)
    assert [step.vectors.position for step in first.steps] == [0]


@pytest.mark.parametrize("word", ["ok", "hatred"])
def test_the_steps_are_the_models_own(demo, plain_demo, word):
    """Against plain transformers, which runs the same batch of one."""
    record = steps([word], layers=6, model=demo)
    row = record.steps[0].vectors
    x, y = (state[row.position] for state in raw_states(plain_demo, record.prompts[0].token_ids)["h.6.ln_1"])
    (entered,), (centred,), (normalized,), (left,) = (panel.vectors for panel in panels([row]))
    assert entered.tolist() == x.tolist()
    assert left.tolist() == y.tolist()
    # The kernel's float32 mu is a sum of d numbers, each addition off by half a unit of the last place at most; sigma
    # passes as many, and the mean's error.
    error = len(x) * EPS32 * np.abs(x).mean()
    np.testing.assert_allclose(centred, x - x.mean(), rtol=0, atol=error)
    xhat = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    np.testing.assert_allclose(normalized, xhat, rtol=len(x) * EPS32, atol=error / x.std())


def test_the_panels_say_what_is_drawn(two):
    found = panels([step.vectors for step in two.steps])
    assert [panel.title.split(",")[0].split(" = ")[0] for panel in found] == ["x", "x - mu", "xhat", "y"]
    # Size shows only where both steps and both tokens have one scale.
    assert found[0].reach == found[1].reach == max(np.abs(one).max() for one in [*found[0].vectors, *found[1].vectors])
    for panel in found[2:]:
        assert panel.reach == max(np.abs(one).max() for one in panel.vectors)
    for panel in found:
        for vector, note in zip(panel.vectors, panel.notes, strict=True):
            said = dict(part.rsplit(" ", 1) for part in note.split(", "))
            assert float(said["sigma"]) == pytest.approx(np.std(vector), rel=1e-3)
            assert float(said["norm"]) == pytest.approx(np.linalg.norm(vector), rel=1e-3)
            assert float(said.get("mu", said.get("mean"))) == pytest.approx(np.mean(vector), rel=1e-3, abs=1e-4)


def test_the_site_is_one(demo):
    assert {step.vectors.site for step in steps("x", model=demo).steps} == {"h.6.ln_1"}
    assert {step.vectors.site for step in steps("x", model=demo, layers="final").steps} == {"ln_f"}
    assert {step.vectors.site for step in steps("x", model=demo, layers=2, sites=["ln_2"]).steps} == {"h.2.ln_2"}
    for words in ({"layers": "0-1"}, {"layers": 0, "sites": ["ln_1", "ln_2"]}):
        with pytest.raises(UsageError, match="steps are those of one LayerNorm"):
            steps("x", model=demo, **words)
    with pytest.raises(UsageError, match="position 9"):
        steps("x", model=demo, position=9)
    with pytest.raises(PromptError, match="was cut off"):
        steps([[1] * 2000], model=demo, overflow="truncate")


def test_its_view_is_bars(two):
    stream = io.StringIO()
    output.write(gpt2ln_cli.view(two), "markdown", stream)
    for word in bars(two).names:
        assert word in stream.getvalue()


def test_the_figure_draws_each_feature_on_common_scales(two):
    figure = plots.draw("steps", two)
    found = panels([step.vectors for step in two.steps])
    grid = np.array(figure.axes).reshape(4, 2)
    for panel, row in zip(found, grid, strict=True):
        assert len({axes.get_ylim() for axes in row}) == 1
        assert panel.reach < row[0].get_ylim()[1] < 1.2 * panel.reach
        for axes, vector, note in zip(row, panel.vectors, panel.notes, strict=True):
            (drawn,) = axes.patches
            vertices = drawn.get_path().vertices
            assert vertices[0::2].tolist() == [[feature, 0.0] for feature in range(len(vector))]
            assert vertices[1::2].tolist() == [[*one] for one in enumerate(vector)]
            assert " ".join(axes.get_title("left").split()) == note
    assert grid[0][0].get_ylim() == grid[1][0].get_ylim()
    heads = [axes.texts[0].get_text().replace("\n", " ") for axes in grid[0]]
    for head, step in zip(heads, two.steps, strict=True):
        assert step.prompt in head
        assert f"position {step.vectors.position}" in head


def test_the_command_draws_it(tmp_path, capsys, two):
    path = tmp_path / "steps.svg"
    assert main(["plot", "steps", "ok", "hatred", "--layer", "6", "-o", str(path)]) == 0
    stream = io.BytesIO()
    plots.save(plots.draw("steps", two), stream, "svg")
    assert path.read_bytes() == stream.getvalue()
    capsys.readouterr()
    for words, message in (
        (["sigma", "--position", "2"], "--position does not apply to 'plot sigma'"),
        (["steps", "--quantity", "mean"], "--quantity does not apply to 'plot steps'"),
        (["steps", *"abcde"], "5 sequences: plot steps has room for 4"),
        (["steps", "ok", "--template", "none"], "must have {} once"),
    ):
        assert main(["plot", *words, "-o", str(path)]) == 2
        assert message in capsys.readouterr().err
