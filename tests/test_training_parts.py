"""The parts of the training loop one by one: stored state, files, random numbers, precision, logging."""

import io
import json
import math
import pickle
import random
import zipfile
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusals import refuses
from stillmotion.errors import StillmotionError
from stillmotion.files import load_tensors, read_json, save_tensors, write_json
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.outputs import new_folder, write_bytes
from stillmotion.training import stage_weights
from stillmotion.training.ema import EMA, warmup_decay
from stillmotion.training.logging import Console, JsonLines, MeanMeter, TensorBoard
from stillmotion.training.stage import check_stages
from stillmotion.training.state import capture, derive_seed, pack, restore, seed_all, unpack
from stopping import ctrl_c
from test_training_gan import Gan, everything, same, train

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(["$tensor", "$tuple"]),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 9), st.just("$tuple")), inner, max_size=3),
        st.builds(Counter, st.lists(st.integers(0, 3), max_size=4)),
    ),
    max_leaves=12,
)


@given(trees)
@settings(max_examples=100, deadline=None)
def test_any_nested_state_survives_json(tree):
    packed = json.loads(json.dumps(pack(tree, {}, "it"), allow_nan=False))
    back = unpack(packed, {})
    assert back == tree
    assert type(back) is type(tree)


def test_tensors_and_nan_in_a_state_survive():
    tensors = {}
    packed = pack({"state": {0: {"m": torch.ones(2), "nan": math.nan}}}, tensors, "o")
    assert list(tensors) == ["o.state.0.m"]
    back = unpack(json.loads(json.dumps(packed, allow_nan=False)), tensors)
    assert torch.equal(back["state"][0]["m"], torch.ones(2))
    assert math.isnan(back["state"][0]["nan"])


def test_what_needs_pickle_is_refused():
    refuses(r"it\.f holds a builtin_function", pack, {"f": print}, {}, "it", error=TypeError)


def test_tensors_of_any_layout_and_shared_memory_come_back(tmp_path):
    base = torch.arange(24.0).reshape(1, 2, 3, 4)
    tensors = {
        "last": base.contiguous(memory_format=torch.channels_last),
        "view": base[:, 1:],
        "twin": base,
        "bf16": base.bfloat16(),
        "count": torch.tensor(3),
    }
    save_tensors(tmp_path / "a.safetensors", tensors)
    assert same(load_tensors(tmp_path / "a.safetensors"), tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("length", [0x80, 0x280])
def test_weights_whose_first_bytes_look_like_a_pickle_are_read(tmp_path, length):
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(length)
    path = tmp_path / "w.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header + b"\x07")
    assert load_tensors(path)["a"].tolist() == [7]


def _pickle(path):
    path.write_bytes(pickle.dumps({"a": 1}))


def _zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", "x")


def _truncated(path):
    save_tensors(path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-1])


def _nan(path):
    save_tensors(path, {"a": torch.tensor([1.0, math.inf])})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_pickle, "pickle or zip"),
        (_zip, "pickle or zip"),
        (_truncated, "damaged or cut short"),
        (_nan, "'a'.*NaN or infinity"),
        (lambda path: path.write_bytes(b""), "not a safetensors file"),
        (lambda path: path.write_bytes(b"\xff" * 100), "not a safetensors file"),
        (lambda path: path.write_bytes((2**40).to_bytes(8, "little") + b"{}"), "not a safetensors file"),
        (lambda path: path.write_bytes((2).to_bytes(8, "little") + b"{]"), "damaged"),
        (lambda path: None, "cannot be read"),
        (lambda path: path.mkdir(), "cannot be read"),
    ],
)
def test_files_that_are_not_usable_weights_are_refused_in_a_sentence(tmp_path, make, words):
    path = tmp_path / "w.safetensors"
    make(path)
    refuses(words, load_tensors, path)


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused_and_never_crash(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    for start in (b"", (len(content)).to_bytes(8, "little") + b"{"):
        path.write_bytes(start + content)
        with pytest.raises(StillmotionError):
            load_tensors(path)


def test_json_files_are_whole_and_strict(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 0.1]})
    refuses("JSON", write_json, path, math.nan, error=ValueError)
    assert read_json(path) == {"a": [1, 0.1]}
    path.write_text("{")
    refuses("not readable JSON", read_json, path)
    refuses("does not exist", read_json, tmp_path / "b.json")
    refuses("could not be written", write_bytes, tmp_path / "nowhere" / "a", b"")


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    final = tmp_path / "model"
    with new_folder(final) as folder:
        (folder / "old").write_text("old")

    def fail(folder):
        (folder / "new").write_text("new")
        raise RuntimeError

    with pytest.raises(RuntimeError), new_folder(final) as folder:
        fail(folder)
    assert [path.name for path in final.iterdir()] == ["old"]
    with new_folder(final) as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_random_numbers_are_restored_and_differ_between_processes():
    generator = torch.Generator()

    def draw():
        return [random.random(), random.gauss(0, 1), torch.rand(1).item(), torch.rand(1, generator=generator).item()]

    seed_all(1, "a", 0, {"g": generator})
    first = draw()  # leaves half of a gauss() pair behind
    state = capture({"g": generator})
    second = draw()
    restore(state, {"g": generator})
    assert draw() == second
    seed_all(1, "a", 0, {"g": generator})
    assert draw() == first
    for seed, stage, rank in [(2, "a", 0), (1, "b", 0), (1, "a", 1)]:
        seed_all(seed, stage, rank, {"g": generator})
        assert not set(draw()) & set(first)
    assert derive_seed(1, "a") != derive_seed("1/a", "")


def test_average_of_three_steps_by_hand():
    """Decay 0.2 at most: 0.1, 2/11, 0.2. Weights 10, 20, 40 after 0: 9, 18, 35.6; buffers are copied."""
    network = torch.nn.BatchNorm2d(1)
    with torch.no_grad():
        network.weight.zero_()
    ema = EMA({"n": network}, 0.2)
    for count, weight in enumerate([10.0, 20.0, 40.0]):
        with torch.no_grad():
            network.weight.fill_(weight)
            network.running_mean.fill_(weight)
            network.num_batches_tracked.fill_(count)
        ema.update()
    assert ema.shadow["n.weight"].item() == pytest.approx(0.2 * (2 / 11 * 9 + 9 / 11 * 20) + 0.8 * 40)
    assert ema.shadow["n.running_mean"].item() == 40
    assert ema.shadow["n.num_batches_tracked"].item() == 2
    with ema.applied():
        assert network.weight.item() == pytest.approx(35.6)
    assert network.weight.item() == 40
    assert [warmup_decay(n, 0.999) for n in (0, 1)] == [0.1, 2 / 11]
    assert warmup_decay(10**6, 0.999) == 0.999


def test_tied_weights_are_averaged_under_both_names():
    network = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False))
    network[1].weight = network[0].weight
    ema = EMA({"n": network}, 0.9)
    with torch.no_grad():
        before = network[0].weight.item()
        network[0].weight.add_(1)
    ema.update()
    expected = pytest.approx(before + 0.9)
    assert (ema.shadow["n.0.weight"].item(), ema.shadow["n.1.weight"].item()) == (expected, expected)


def test_a_run_says_which_precision_was_measured_and_keeps_it_on_resume(tmp_path, monkeypatch):
    monkeypatch.setattr("stillmotion.nn.device.choose_precision", lambda *_: ("bf16", {"fp32": 2.0, "bf16": 1.0}))
    with ctrl_c():
        train(tmp_path, [Gan()], precision="auto")
    monkeypatch.setattr("stillmotion.nn.device.choose_precision", lambda *_: ("fp32", {}))
    train(tmp_path, [Gan()], precision="auto", resume=True)
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    events = [event for event in events if "event" in event]
    assert [(e["event"], e["precision"], e["step"]) for e in events] == [("start", "bf16", 0), ("resume", "bf16", 1)]
    assert events[0]["probe_ms"] == {"fp32": 2.0, "bf16": 1.0}


def test_the_log_is_cut_to_the_resumed_step(tmp_path):
    log = JsonLines(tmp_path / "log.jsonl")
    for stage, step in [("a", 5), ("a", 10), ("b", 5), ("b", 10), ("gone", 1)]:
        log.write({"stage": stage, "step": step})
    log.close()
    with log.path.open("a") as file:
        file.write('{"stage": "a", "step": 1')  # killed while writing
    log.truncate(["a", "b"], "b", 5)
    log.write({"stage": "b", "step": 6, "losses": {"x": math.nan}})
    log.close()
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [("a", 5), ("a", 10), ("b", 5), ("b", 6)]
    assert lines[-1]["losses"] == {"x": None}


def test_means_continue_from_stored_sums():
    meter = MeanMeter()
    meter.add({"a": torch.tensor(1.0)})
    meter.add({"a": torch.tensor(2.0), "b": torch.tensor(7.0)})
    assert meter.sums() == {"a": (3.0, 2), "b": (7.0, 1)}
    again = MeanMeter()
    again.reset({"a": [3.0, 2], "b": [7.0, 1]})
    again.add({"a": torch.tensor(4.0)})
    assert again.sums() == {"a": (7.0, 3), "b": (7.0, 1)}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_console_has_a_bar_on_a_terminal_and_lines_elsewhere():
    plain = io.StringIO()
    console = Console("motion", 0, 10, plain)
    for _ in range(5):
        console.advance()
    console.losses(5, {"d": 0.5, "g": 1.25}, 12.0, 65.0)
    console.close()
    assert plain.getvalue().startswith("motion 5/10  d 0.5  g 1.25  12.0 samples/s  01:05 left\n")
    terminal = Terminal()
    console = Console("motion", 3, 10, terminal)
    console.advance()
    console.line("4 of 10")
    console.total = 8  # no more than a time budget leaves
    console.losses(4, {"d": 0.5}, 12.0, 9.0)
    console.line("a sentence")
    console.close()
    assert "4/10" in terminal.getvalue()
    assert "4/8" in terminal.getvalue()
    assert "d 0.5" in terminal.getvalue()
    assert "a sentence\n" in terminal.getvalue()


def test_training_goes_on_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    board = TensorBoard(tmp_path / "board", 0)
    board.scalars(1, {"a": 1.0})
    board.close()
    assert not (tmp_path / "board").exists()


def test_batches_must_divide_among_processes():
    check_stages([Gan(batch=4)], world=2)
    refuses("cannot be divided among 3 processes", check_stages, [Gan(batch=4)], world=3)


def test_weights_of_an_unknown_stage_are_asked_for(tmp_path):
    refuses("no checkpoint of a stage 'gan'", stage_weights, tmp_path, "gan")


def test_channels_last_trains_and_resumes_bit_for_bit(tmp_path):
    train(tmp_path / "whole", [Gan()], channels_last=True)
    with ctrl_c():
        train(tmp_path / "parts", [Gan()], channels_last=True)
    stage = Gan()
    train(tmp_path / "parts", [stage], channels_last=True, resume=True)
    assert stage.generator[0].weight.is_contiguous(memory_format=torch.channels_last)
    state = stage.optimizers["generator"].state[stage.generator[0].weight]
    assert state["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    assert same(everything(tmp_path / "parts", "gan-000012"), everything(tmp_path / "whole", "gan-000012"))


def test_batch_norm_of_one_process_is_torchs(monkeypatch):
    ours, theirs = BatchNorm2d(3, momentum=None), torch.nn.BatchNorm2d(3, momentum=None)
    theirs.load_state_dict(ours.state_dict())
    values = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(values), theirs(values))
    assert same(ours.state_dict(), theirs.state_dict())
