"""The instrument reads what the model computes, refuses what it can't read, and never touches the model."""

from __future__ import annotations

import copy
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import raw_states, reference
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from transformers import GPT2Config, GPT2Model

import gpt2ln_cli
from gpt2ln_cli.errors import UsageError
from gpt2ln_cli.model.instrument import Batch, Instrument, watch
from gpt2ln_cli.model.subject import bytes_a_token, tokens_in_a_pass
from gpt2ln_cli.records import Flag
from gpt2ln_cli.sites import Site, all_sites

IDS = [5, 9, 1, 33, 2, 7]
EXPERIMENTS = {
    "verify": lambda model: gpt2ln_cli.verify([IDS], model=model),
    "compare": lambda model: gpt2ln_cli.compare([IDS, IDS[::-1]], model=model),
    "compare --context": lambda model: gpt2ln_cli.compare([IDS], model=model, context=True),
    "ablate": lambda model: gpt2ln_cli.ablate([IDS], model=model),
}


@pytest.fixture
def loaded(make_folder):
    return gpt2ln_cli.load(make_folder())


def output(body):
    with torch.no_grad():
        return body(torch.tensor([IDS]), use_cache=False).last_hidden_state


def state(body):
    """What there is to change in a model: each module's own attributes, hooks and flags."""
    return [
        (name, id(module), {key: str(value) for key, value in module.__dict__.items() if key != "config"})
        for name, module in body.named_modules()
    ]


def rows_of(record, site):
    return [row for row in record.rows if row.site == site]


def assert_rows(rows, expected, rtol=1e-5):
    for name in ("sigma", "normalized_norm", "post_norm"):
        np.testing.assert_allclose([getattr(row, name) for row in rows], expected[name], rtol=rtol, err_msg=name)
    kurtosis = [row.excess_kurtosis + 3 for row in rows]
    np.testing.assert_allclose(kurtosis, expected["excess_kurtosis"] + 3, rtol=rtol)


# A model that was changed in Python.


@pytest.mark.parametrize("eps", [0.0, 1e-12, 0.1, 10.0])
def test_eps_is_the_modules_own(loaded, eps):
    loaded.body.h[1].ln_2.eps = eps
    record = gpt2ln_cli.inspect([IDS], model=loaded, per_token=True)
    states = raw_states(loaded.body, IDS)
    assert_rows(rows_of(record, "h.1.ln_2"), reference(*states["h.1.ln_2"], eps))
    assert_rows(rows_of(record, "h.0.ln_2"), reference(*states["h.0.ln_2"], 1e-5))
    message = f"eps is {eps:g} here and 1e-05 in the configuration: the figures go by the module's"
    assert Flag(code="eps_differs", site="h.1.ln_2", message=message) in record.warnings
    dominated = "h.1.ln_2" in [flag.site for flag in record.warnings if flag.code == "eps_dominates"]
    assert dominated == (np.median(states["h.1.ln_2"][0].var(-1)) < eps)
    assert [flag.code for flag in record.warnings].count("eps_differs") == 1


def test_the_experiments_take_the_modules_own_eps(loaded):
    for block in loaded.body.h:
        block.ln_2.eps = 0.1
    record = gpt2ln_cli.verify([IDS, IDS[::-1]], model=loaded)
    assert {claim.id: claim.verdict for claim in record.claims}["verify.axis"] == "yes"
    tokens = gpt2ln_cli.compare([IDS, IDS[::-1]], model=loaded).settings[0].tokens
    assert all(at.rebuilt for token in tokens for at in token.sites)


def test_without_eps_a_constant_token_has_no_xhat(make_folder):
    def change(body):
        body.wte.weight.fill_(0.25)
        body.wpe.weight.fill_(0.5)

    loaded = gpt2ln_cli.load(make_folder(change))
    loaded.body.h[0].ln_1.eps = 0.0
    record = gpt2ln_cli.inspect([[3, 4]], model=loaded, per_token=True, layers=0, sites=["ln_1"])
    assert [(row.mean, row.sigma, row.normalized_norm) for row in record.rows] == [(0.75, 0, None)] * 2


class Doubled(nn.LayerNorm):
    def forward(self, x):
        return 2 * super().forward(x)


class Called(nn.LayerNorm):
    def __call__(self, x):
        return 2 * super().__call__(x)


class Wrapped(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return 2 * self.norm(x)


def subclassed(block, kind=Doubled):
    norm = kind(block.ln_2.normalized_shape, eps=block.ln_2.eps)
    norm.load_state_dict(block.ln_2.state_dict())
    block.ln_2 = norm


def replaced(block):
    own = block.ln_2.forward
    block.ln_2.forward = lambda x: 2 * own(x)


CHANGES = {
    "subclassed": subclassed,
    "with another __call__": lambda block: subclassed(block, Called),
    "replaced": replaced,
    "wrapped": lambda block: setattr(block, "ln_2", Wrapped(block.ln_2)),
    "hooked": lambda block: block.ln_2.register_forward_hook(lambda _, inputs, y: 2 * y),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("training", [False, True])
def test_what_is_not_the_kernels_own_is_refused_by_name(loaded, how, training):
    CHANGES[how](loaded.body.h[1])
    kind = type(loaded.body.h[1].ln_2).__name__
    plain = output(loaded.body)
    loaded.body.train(training)
    before = state(loaded.body)
    with pytest.raises(UsageError, match=rf"h\.1\.ln_2 \(.*{kind}\) can't be read"):
        gpt2ln_cli.inspect([IDS], model=loaded)
    assert state(loaded.body) == before
    # The others can be.
    assert_rows(
        gpt2ln_cli.stats([IDS], model=loaded, layers=1, sites=["ln_1"]).rows,
        reference(*raw_states(loaded.body.eval(), IDS)["h.1.ln_1"], 1e-5),
    )
    assert torch.equal(output(loaded.body), plain)


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("training", [False, True])
def test_what_only_watches_works_on_any_module(loaded, how, training):
    CHANGES[how](loaded.body.h[1])
    states = raw_states(loaded.body, IDS)
    plain = output(loaded.body)
    loaded.body.train(training)
    before = state(loaded.body)
    verdicts = {claim.id: claim.verdict for claim in gpt2ln_cli.verify([IDS], model=loaded).claims}
    assert verdicts["verify.axis"] == "no"
    tokens = gpt2ln_cli.compare([IDS, IDS[::-1]], model=loaded).settings[0].tokens
    at = next(one for one in tokens[0].sites if one.site == "h.1.ln_2")
    x, y = (values[-1] for values in states["h.1.ln_2"])
    y = 2 * y if how == "with another __call__" else y  # which is outside of its hooks
    assert at.pre.norm == pytest.approx(np.linalg.norm(x), rel=1e-5)
    assert at.post.norm == pytest.approx(np.linalg.norm(y), rel=1e-5)
    gpt2ln_cli.ablate([IDS], model=loaded)
    assert state(loaded.body) == before
    assert torch.equal(output(loaded.body.eval()), plain)


class Scaled(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return 2.0 * x


@pytest.mark.parametrize(
    "module",
    [
        nn.Identity(),
        Scaled(torch.ones(())),
        Scaled(torch.ones(3)),
        Scaled(torch.ones(2, 12)),
        nn.Sequential(nn.Linear(24, 24)),
    ],
    ids=["identity", "scalar", "vector of another width", "matrix", "sequence"],
)
def test_a_module_without_gain_and_bias_leaves_other_sites_as_they_are(loaded, module):
    loaded.body.h[1].ln_2 = module
    states = raw_states(loaded.body, IDS)
    record = gpt2ln_cli.inspect([IDS], model=loaded, sites=["ln_1", "ln_f"], per_token=True)
    assert_rows(rows_of(record, "h.1.ln_1"), reference(*states["h.1.ln_1"], 1e-5))
    assert record.warnings == []
    for run in EXPERIMENTS.values():
        assert [flag for flag in run(loaded).warnings if flag.code == "identity"] == []


def test_a_block_with_another_forward_is_followed_or_refused(loaded):
    body = loaded.body
    plain = gpt2ln_cli.inspect([IDS], model=loaded, per_token=True).rows
    block = body.h[1]
    block.forward = type(block).forward.__get__(block)
    assert gpt2ln_cli.inspect([IDS], model=loaded, per_token=True).rows == plain
    own = block.forward
    block.forward = lambda *given, **named: own(*given, **named)
    for run in (lambda model: gpt2ln_cli.inspect([IDS], model=model), *EXPERIMENTS.values()):
        with pytest.raises(UsageError, match=r"h\.1 \(.*GPT2Block\) has another function as its forward"):
            run(loaded)


def test_a_site_that_is_not_run_is_named(loaded):
    class Skipping(type(loaded.body.h[1])):
        def forward(self, hidden, *_, **__):
            return hidden

    loaded.body.h[1].__class__ = Skipping
    for run in (lambda model: gpt2ln_cli.inspect([IDS], model=model), *EXPERIMENTS.values()):
        with pytest.raises(UsageError, match=r"h\.1\.ln_1, h\.1\.ln_2 and does not run it"):
            run(loaded)
    assert len(gpt2ln_cli.stats([IDS], model=loaded, layers=0).rows) == 12


def test_a_body_without_the_site_is_named(loaded):
    del loaded.body.h[1].ln_2
    with pytest.raises(UsageError, match=r"GPT2Model has no h\.1\.ln_2"):
        gpt2ln_cli.inspect([IDS], model=loaded)


def test_a_model_in_training_mode_is_read_in_evaluation_mode(make_folder):
    loaded = gpt2ln_cli.load(make_folder(attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5))
    for module in loaded.body.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    plain = gpt2ln_cli.inspect([IDS], model=loaded, per_token=True).rows
    compared = gpt2ln_cli.compare([IDS, IDS[::-1]], model=loaded).settings
    loaded.body.train()
    loaded.body.h[0].eval()
    before = state(loaded.body)
    assert gpt2ln_cli.inspect([IDS], model=loaded, per_token=True).rows == plain
    assert gpt2ln_cli.compare([IDS, IDS[::-1]], model=loaded).settings == compared
    assert state(loaded.body) == before
    assert not torch.equal(output(loaded.body), output(loaded.body))


def test_autocast_of_the_callers_does_not_reach_a_pass(loaded):
    plain = gpt2ln_cli.inspect([IDS], model=loaded, per_token=True)
    loss = gpt2ln_cli.ablate([IDS], model=loaded).real.loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gpt2ln_cli.inspect([IDS], model=loaded, per_token=True) == plain
        assert gpt2ln_cli.ablate([IDS], model=loaded).real.loss == loss
        assert torch.is_autocast_enabled("cpu")


def test_what_the_configuration_wants_returned_installs_no_hooks(loaded):
    before = state(loaded.body)
    loaded.body.config.output_hidden_states = True
    loaded.body.config.return_dict = False
    gpt2ln_cli.inspect([IDS], model=loaded)
    assert state(loaded.body) == before


@pytest.mark.parametrize("how", ["torch.compile", "in place", "one block"])
def test_a_compiled_body_is_refused_and_left_alone(loaded, how):
    body = loaded.body
    plain = output(body)
    if how == "torch.compile":
        compiled = torch.compile(body, backend="eager")
        loaded._body = compiled
        what = "the model"
    elif how == "in place":
        body.compile(backend="eager")
        what = "the model"
    else:
        body.h[1].compile(backend="eager")
        what = r"h\.1"
    compiled_output = output(loaded.body)
    for run in (lambda model: gpt2ln_cli.inspect([IDS], model=model), *EXPERIMENTS.values()):
        with pytest.raises(UsageError, match=rf"^{what} is compiled"):
            run(loaded)
    assert torch.equal(output(loaded.body), compiled_output)
    assert torch.equal(compiled_output, plain)


# A model that is shared.


@pytest.mark.slow
def test_many_threads_get_the_figures_of_one(demo):
    calls = [
        lambda: gpt2ln_cli.inspect([IDS], model=demo, per_token=True),
        lambda: gpt2ln_cli.stats([IDS * 3], model=demo, layers=2),
        lambda: gpt2ln_cli.compare([IDS], model=demo, context=True, layers="0,final"),
        lambda: gpt2ln_cli.ablate([IDS], model=demo, layers=3),
        lambda: output(demo.body).tolist(),
    ]
    alone = [call() for call in calls]
    before = state(demo.body)
    jobs = list(itertools.islice(itertools.cycle(range(len(calls))), 40))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda job: calls[job](), jobs)) == [alone[job] for job in jobs]
    assert state(demo.body) == before


def test_a_forward_of_the_users_own_beside_it_is_untouched(loaded):
    """In the middle of a pass that reads, and of one that replaces, another thread runs the model as it is."""
    body = loaded.body
    plain, seen = output(body), []
    inside = threading.local()

    def forward_beside(*_):
        if getattr(inside, "pass_", False):
            with ThreadPoolExecutor(1) as pool:
                seen.append(pool.submit(output, body).result())

    body.h[1].mlp.register_forward_hook(forward_beside)
    inside.pass_ = True
    Instrument(body, all_sites(2), shape=True).read(Batch.of([IDS]))
    replace = dict.fromkeys(all_sites(2), torch.zeros_like)
    hidden = watch(body, Batch.of([IDS]), [], lambda *_: None, replace)
    assert not hidden.any()
    assert len(seen) == 2
    assert all(torch.equal(one, plain) for one in seen)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("training", [False, True])
def test_whatever_is_raised_inside_leaves_the_model_as_it_was(loaded, error, training):
    def fail(*_):
        raise error

    body = loaded.body.train(training)
    body.h[1].mlp.register_forward_pre_hook(fail)
    before = state(body)
    for run in (lambda model: gpt2ln_cli.inspect([IDS], model=model), *EXPERIMENTS.values()):
        with pytest.raises(error):
            run(loaded)
        assert state(body) == before
    body.h[1].mlp._forward_pre_hooks.clear()
    assert gpt2ln_cli.inspect([IDS], model=loaded).counts.formula_agrees


def test_a_layer_norm_in_two_places_is_two_sites(loaded):
    body = loaded.body
    body.h[1].ln_1 = body.h[0].ln_1
    rows = gpt2ln_cli.inspect([IDS], model=loaded, per_token=True).rows
    x = []
    handle = body.h[0].ln_1.register_forward_hook(lambda _, inputs, y: x.append((inputs[0][0], y[0])))
    output(body)
    handle.remove()
    for site, (entering, leaving) in zip(("h.0.ln_1", "h.1.ln_1"), x, strict=True):
        expected = reference(entering.double().numpy(), leaving.double().numpy(), 1e-5)
        assert_rows([row for row in rows if row.site == site], expected)


# Nothing in a pass waits for the device.


def config():
    return GPT2Config(vocab_size=61, n_positions=32, n_embd=24, n_layer=2, n_head=3)


@pytest.mark.parametrize("shape", [False, True])
def test_a_pass_on_meta_reads_nothing(shape):
    """There is no number to read on ``meta``: whatever asks for one raises, transformers' mask code too."""
    with torch.device("meta"):
        body = GPT2Model(config()).eval()
    batch = Batch.of([IDS, IDS[:2]])
    with pytest.raises((NotImplementedError, RuntimeError)), torch.no_grad():
        body(batch.ids.to("meta"), attention_mask=batch.mask.to("meta"), use_cache=False)
    instrument = Instrument(body, all_sites(2), shape=shape)
    readings = instrument.read(batch)
    assert [reading.rstd.shape for reading in readings] == [(2, 6)] * 5
    exact = instrument.read_exactly(batch, {Site(0, "ln_2"): torch.tensor([0, 7])})
    assert [one.variance.shape for one in exact.values()] == [(2,)]
    assert exact[Site(0, "ln_2")].variance.dtype == torch.float64


@pytest.mark.parametrize("shape", [False, True])
def test_a_pass_with_fake_tensors_branches_on_no_value(shape):
    """Under ``FakeTensorMode`` ``.item()``, ``bool()``, ``tolist()`` and masked selection raise."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        body = GPT2Model(config()).eval()
        with pytest.raises(DataDependentOutputException):
            bool(body.wte.weight.sum() > 0)
        instrument = Instrument(body, all_sites(2), shape=shape)
        batch = Batch.of([IDS, IDS[:2]])
        readings = instrument.read(batch)
        exact = instrument.read_exactly(batch, {Site(0, "ln_2"): mode.from_tensor(torch.tensor([0, 7]))})
    assert [reading.rstd.shape for reading in readings] == [(2, 6)] * 5
    assert [one.variance.shape for one in exact.values()] == [(2,)]


def test_the_mask_for_other_devices_gives_the_same_numbers(loaded, monkeypatch):
    """Right-padded, with the mask of four dimensions that a GPU gets, every real token's figures are as on a CPU."""
    from gpt2ln_cli.model import stand_in

    prompts = [IDS, IDS[:4], IDS[::-1]]
    plain = gpt2ln_cli.inspect(prompts, model=loaded, per_token=True).rows

    def for_gpu(_, batch):
        length = batch.ids.shape[1]
        return torch.ones((1, 1, length, length), dtype=torch.bool).tril()

    monkeypatch.setattr(stand_in, "_attention_mask", for_gpu)
    for a, b in zip(plain, gpt2ln_cli.inspect(prompts, model=loaded, per_token=True).rows, strict=True):
        assert b.sigma == pytest.approx(a.sigma, rel=1e-5)
        assert b.post_norm == pytest.approx(a.post_norm, rel=1e-5)


def test_a_batch_is_run_again_only_where_x_must_be_read(loaded):
    passes = []
    loaded.body.register_forward_hook(lambda *_: passes.append(1))
    gpt2ln_cli.inspect([IDS, IDS[:3]], model=loaded)
    assert len(passes) == 1
    loaded.body.wte.weight.mul_(1e-6)
    loaded.body.wpe.weight.mul_(1e-6)
    passes.clear()
    record = gpt2ln_cli.inspect([IDS, IDS[:3]], model=loaded, per_token=True, layers=0)
    rows = [row for row in rows_of(record, "h.0.ln_1") if row.sequence == 0]
    assert_rows(rows, reference(*raw_states(loaded.body, IDS)["h.0.ln_1"], 1e-5))


@pytest.mark.parametrize("scale", [1e-17, 1e-13, 1e-11, 1e-8, 1.0, 1e6, 1e10, 1e13, 1e17])
@pytest.mark.parametrize("eps", [0.0, 1e-40, 1e-5])
def test_kurtosis_is_right_at_every_scale(loaded, scale, eps):
    body = copy.deepcopy(loaded.body)
    torch.manual_seed(0)
    body.wte.weight.normal_().pow_(3).mul_(scale)
    body.wpe.weight.zero_()
    body.h[0].ln_1.eps = eps
    loaded._body = body
    record = gpt2ln_cli.inspect([IDS], model=loaded, per_token=True, layers=0, sites=["ln_1"])
    assert_rows(record.rows, reference(*raw_states(body, IDS)["h.0.ln_1"], eps))


# How many tokens a pass takes.


def test_windows_are_run_as_many_at_a_time_as_the_tokens_allow(demo):
    ids = [[index] * 256 for index in range(8)]
    for options, batches in (({}, 2), ({"batch_size": 64}, 2), ({"batch_tokens": 2048}, 1), ({"batch_tokens": 1}, 8)):
        assert gpt2ln_cli.inspect(ids, model=demo, layers=0, **options).counts.batches == batches
    with pytest.raises(UsageError, match="batch tokens 0"):
        gpt2ln_cli.inspect(ids, model="demo", batch_tokens=0)


def on_gpu(body):
    """What is asked of a body to plan its passes, as if it were on a GPU."""
    return SimpleNamespace(device=torch.device("cuda"), config=body.config, dtype=body.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["gelu_new", "gelu"])
def test_a_pass_takes_the_memory_that_it_is_planned_with(dtype, activation):
    """Peak of what is allocated while a pass runs, as torch's profiler counts it, against the estimate."""
    body = GPT2Model(GPT2Config(n_layer=3, n_embd=96, vocab_size=61, activation_function=activation)).eval().to(dtype)
    batch = Batch.of([[1] * 256] * 4)
    instrument = Instrument(body, all_sites(3), shape=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        instrument.read(batch)
    events = sorted(profiled.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    held = itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]")
    assert 0.4 < max(held) / batch.ids.numel() / bytes_a_token(on_gpu(body)) < 1


@pytest.mark.parametrize(("free", "tokens"), [(2**20, 1024), (2**26, None), (2**40, 65_535)])
def test_a_gpu_takes_what_its_memory_takes(loaded, monkeypatch, free, tokens):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free // 2, 2**41))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: free)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: free // 2)
    body = on_gpu(loaded.body)
    assert tokens_in_a_pass(body) == (tokens or free // 2 // bytes_a_token(body))
    assert tokens_in_a_pass(loaded.body) == 1024
