"""Batches on their way to the device: order, errors, early close; on a GPU also values and resume."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from refusals import refuses
from stillmotion.nn.device import choose_device
from stillmotion.training import prefetch
from stopping import ctrl_c
from test_training_gan import Gan, everything, train

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_items_come_in_order_one_ahead_and_the_thread_ends() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    seen = []
    with prefetch.one_ahead(items()) as ahead:
        assert made == []
        for number in ahead:
            deadline = time.monotonic() + 10
            while len(made) < min(number + 2, 5) and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.01)  # room for a mistake: two ahead
            seen.append((number, len(made)))
        assert threads()
    assert seen == [(0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]
    assert threads() == []


def test_an_error_is_raised_where_its_item_is_asked_for() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("broken clip")

    with prefetch.one_ahead(items()) as ahead:
        assert next(ahead) == 1
        refuses("broken clip", next, ahead, error=KeyError)
        assert list(ahead) == []
    assert threads() == []


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_leaving_early_ends_the_thread_and_takes_no_more(error: type[BaseException] | None) -> None:
    made: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    def leave() -> None:
        with prefetch.one_ahead(endless()) as ahead:
            assert next(ahead) == 0
            if error is not None:
                raise error

    if error is None:
        leave()
    else:
        with pytest.raises(error):
            leave()
    assert threads() == []
    assert len(made) == 2


def test_on_the_cpu_nothing_is_taken_ahead_and_no_thread_is_made() -> None:
    taken: list[int] = []

    def batches() -> Iterator[dict[str, object]]:
        for number in range(3):
            taken.append(number)
            yield {"picture": torch.full((1, 2, 3, 4), float(number)), "name": [f"clip{number}"]}

    with prefetch.on_device(batches(), CPU, channels_last=True) as moved:
        first = next(moved)
        assert taken == [0]
        assert threads() == []
        assert first["name"] == ["clip0"]
        assert first["picture"].is_contiguous(memory_format=torch.channels_last)
        assert [int(batch["picture"][0, 0, 0, 0]) for batch in moved] == [1, 2]


class FakeStream:
    """What `on_device` asks of a CUDA stream, on a machine without one; its copies are done at once."""

    waited: list[object]

    def __init__(self, device: torch.device):
        self.waited = []

    def __enter__(self) -> "FakeStream":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def record_event(self) -> object:
        return object()

    def wait_event(self, event: object) -> None:
        self.waited.append(event)


def test_on_a_fake_gpu_every_batch_is_copied_waited_for_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    current, recorded, copied = FakeStream(CPU), [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: recorded.append(stream))
    monkeypatch.setattr(prefetch, "move", lambda value, *_: copied.append(threading.current_thread().name) or value)

    batches = [{"picture": torch.full((1,), float(number)), "name": ["clip"]} for number in range(4)]
    with prefetch.on_device(iter(batches), choose_device("auto"), channels_last=False) as moved:
        assert [int(batch["picture"]) for batch in moved] == [0, 1, 2, 3]
    assert len(current.waited) == 4
    assert recorded == [current] * 4  # the tensors, not the names
    assert all(name.startswith("prefetch") for name in copied)
    assert threads() == []


@needs_cuda
def test_on_a_gpu_batches_arrive_whole_while_the_gpu_is_busy() -> None:
    device = choose_device("cuda")
    busy = torch.rand(4096, 4096, device=device)
    batches = ({"picture": torch.full((64, 3, 64, 64), float(number)), "name": ["clip"]} for number in range(20))
    with prefetch.on_device(batches, device, channels_last=True) as moved:
        for number, batch in enumerate(moved):
            busy = (busy @ busy).clamp(-1, 1)
            assert batch["picture"].device.type == "cuda"
            assert batch["picture"].is_contiguous(memory_format=torch.channels_last)
            assert bool((batch["picture"] == number).all())
    assert threads() == []


@needs_cuda
def test_a_training_on_a_gpu_resumes_where_it_stopped(tmp_path) -> None:
    """Close, not bit for bit: a GPU may add in another order."""
    train(tmp_path / "whole", [Gan(noise=0)], device="cuda")
    with ctrl_c():
        train(tmp_path / "parts", [Gan(noise=0)], device="cuda")
    train(tmp_path / "parts", [Gan(noise=0)], device="cuda", resume=True)
    whole, parts = (everything(tmp_path / name, "gan-000012") for name in ("whole", "parts"))
    for key in whole:
        if key.startswith(("model/", "ema/")):
            assert torch.allclose(whole[key].double(), parts[key].double(), atol=1e-2), key
