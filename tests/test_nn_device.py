"""The device and the precision: choices on this machine, and on a fake one with CUDA."""

import math

import pytest
import torch

from refusals import refuses
from stillmotion.nn.device import best_times, choose_device, choose_precision, time_convolution

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def with_cuda(monkeypatch: pytest.MonkeyPatch, available: bool, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)


def test_auto_takes_cuda_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cuda(monkeypatch, True)
    assert [choose_device(name) for name in ("auto", "cuda", "cpu")] == [CUDA, CUDA, CPU]
    with_cuda(monkeypatch, False)
    assert [choose_device(name) for name in ("auto", "cpu")] == [CPU, CPU]
    refuses("no CUDA device", choose_device, "cuda")
    refuses("auto, cpu, cuda, not 'tpu'", choose_device, "tpu")


def test_cuda_takes_bf16_where_its_hardware_has_it_and_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def timer(*_: object) -> dict[str, float]:
        raise AssertionError("measured")

    with_cuda(monkeypatch, True, bf16=True)
    assert choose_precision("auto", CUDA, True, timer) == ("bf16", {})
    assert choose_precision("fp32", CUDA, True, timer) == ("fp32", {})
    with_cuda(monkeypatch, True, bf16=False)
    assert choose_precision("auto", CUDA, True, timer) == ("fp32", {})


def test_the_cpu_takes_what_is_measured_to_be_faster() -> None:
    def clock(fp32: float, bf16: float):
        return lambda *_: {"fp32": fp32, "bf16": bf16}

    assert choose_precision("auto", CPU, True, clock(10.0, 5.0)) == ("bf16", {"fp32": 10.0, "bf16": 5.0})
    assert choose_precision("auto", CPU, True, clock(10.0, 9.5))[0] == "fp32"  # below 15 %
    assert choose_precision("auto", CPU, True, clock(5.0, 10.0))[0] == "fp32"
    assert choose_precision("bf16", CPU, True, clock(5.0, 10.0)) == ("bf16", {})

    def lacking(*_: object) -> dict[str, float]:
        raise RuntimeError("no bfloat16 here")

    assert choose_precision("auto", CPU, True, lacking) == ("fp32", {})


def test_measuring_gives_times_and_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    times = time_convolution(CPU, channels_last=True, repeats=1)
    assert times.keys() == {"fp32", "bf16"}
    assert all(0 < value < math.inf for value in times.values())
    assert torch.equal(torch.get_rng_state(), before)


def test_best_times_are_the_smallest_of_each_in_turns() -> None:
    times = {"fp32": iter([3.0, 1.0]), "bf16": iter([2.0, 5.0])}
    asked = []

    def once(name: str) -> float:
        asked.append(name)
        return next(times[name])

    assert best_times(once, repeats=2) == {"fp32": 1.0, "bf16": 2.0}
    assert asked == ["fp32", "bf16"] * 2
