"""Two processes train like one; this file is also what `torchrun` runs, see `main`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stillmotion import losses as shared_losses
from stillmotion.errors import StillmotionError
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.training import reporting
from test_training_budget import Clock, timed
from test_training_gan import Gan, at_step, everything, losses, same, train


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    """One `torchrun` for everything below, since each start takes seconds."""
    two = tmp_path / "two"
    two.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    process = subprocess.run([*command, __file__, two], capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    check_the_doubled_batch(two, tmp_path)
    check_stop_and_resume(two)
    check_time_budget(two)
    check_nan(two)
    check_full_disk(two)
    check_batch_norm(two)
    check_global_mean(two)


def check_the_doubled_batch(two, tmp_path):
    assert train(tmp_path / "one", [Gan(noise=0)]).finished
    mine, theirs = losses(tmp_path / "one"), losses(two / "plain")
    assert [line[:2] for line in mine] == [line[:2] for line in theirs]
    for (_, _, one, _), (_, _, other, _) in zip(mine, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    one, other = everything(tmp_path / "one", "gan-000012"), everything(two / "plain", "gan-000012")
    for key in one:
        if key.startswith(("model/", "ema/")):
            assert torch.allclose(one[key].double(), other[key].double(), atol=1e-3), key


def check_stop_and_resume(two):
    whole, parts = everything(two / "whole", "gan-000012"), everything(two / "parts", "gan-000012")
    assert same(whole, parts)
    assert losses(two / "whole") == losses(two / "parts")
    # Each process has random numbers of its own.
    assert not torch.equal(whole["rng/0.torch"], whole["rng/1.torch"])
    assert not torch.equal(whole["rng/0.generator_noise"], whole["rng/1.generator_noise"])


def check_time_budget(two):
    """20 s, and steps that take 2 s by one clock and 4 s by the other: five steps for both, at the same rates."""
    results = [json.loads((two / f"budget-{rank}.json").read_text()) for rank in (0, 1)]
    for finished, step, rates in results:
        assert (finished, step) == (True, 5)
        assert rates == pytest.approx([0.01 * (1 - k / 5) for k in range(5)])


def check_nan(two):
    # Step 6 has the samples 20 to 23, two for each process; clips are named n % 7.
    messages = [(two / f"nan-{rank}").read_text() for rank in (0, 1)]
    assert messages[0] == messages[1]
    assert "(clips: clip1, clip2)" in messages[0]
    assert sorted(path.name for path in (two / "nan" / "checkpoints").iterdir()) == ["gan-000004"]


def check_full_disk(two):
    assert "disk is full" in (two / "full-0").read_text()
    assert "first process stopped" in (two / "full-1").read_text()


def check_batch_norm(two):
    results = [json.loads((two / f"norm-{rank}.json").read_text()) for rank in (0, 1)]
    for result in results:
        assert result["layout"] == [True, True]
        assert result["dtype"] == ["torch.float32", "torch.bfloat16"]
        for name, error in result["errors"].items():
            assert error < (0.02 if name == "bf16" else 2e-4), (name, error)


def check_global_mean(two):
    """Values 2, 4, 6 with weights 1, 1, 4, the last on process 1: mean (2 + 4 + 24) / 6 = 5, not (3 + 6) / 2.

    x is a factor of all values and y one of the last weight, both 1: d/dx = 5, d/dy = (24 - 5 * 4) / 6 = 2/3.
    """
    results = [json.loads((two / f"mean-{rank}.json").read_text()) for rank in (0, 1)]
    for result in results:
        assert (result["mean"], result["empty"]) == (pytest.approx(5.0), 0)
        assert result["gradient"] == pytest.approx([5.0, 2 / 3])
    # Motion weights: 1 + 8 for the one moving pixel of four, and 2 * 4 pixels in all: the mean is (9 + 7) / 8 = 2.
    assert [result["weights"] for result in results] == [[4.5, 0.5, 0.5, 0.5], [0.5] * 4]


def _global_mean(rank, folder):
    x, y = (torch.ones((), requires_grad=True) for _ in range(2))
    weights = torch.ones(2) if rank == 0 else 4 * y.reshape(1)
    values = x * (torch.tensor([2.0, 4.0]) if rank == 0 else torch.tensor([6.0]))
    mean = shared_losses.global_mean((weights * values).sum(), weights.sum())
    mean.backward()
    # What `update` does: the mean of the processes' gradients.
    gradient = torch.stack([torch.zeros(()) if v.grad is None else v.grad for v in (x, y)])
    torch.distributed.all_reduce(gradient)
    source, target = torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4)
    target[..., 0] = 1.0 - rank
    result = {
        "mean": mean.item(),
        "gradient": (gradient / 2).tolist(),
        "empty": shared_losses.global_mean(torch.tensor(0.0), 0.0).item(),
        "weights": shared_losses.motion_weights(source, target, gain=8)[0, 0, 0].tolist(),
    }
    (folder / f"mean-{rank}.json").write_text(json.dumps(result))


def _norm(rank, folder):
    """Compare with torch on a batch of 1 + 3 pictures, far from zero: sums of squares would cancel there."""
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(4, 3, 5, 5, generator=generator) + torch.tensor([0.0, 100.0, -1000.0])[:, None, None]
    slopes = torch.randn(4, 3, 5, 5, generator=generator)
    mine = slice(0, 1) if rank == 0 else slice(1, 4)
    whole, part = nn.BatchNorm2d(3), BatchNorm2d(3)
    with torch.no_grad():
        for layer in (whole, part):
            layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            layer.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    a = values.clone().requires_grad_()
    b = values[mine].contiguous(memory_format=torch.channels_last).requires_grad_()
    expected, made = whole(a), part(b)
    (expected * slopes).sum().backward()
    (made * slopes[mine]).sum().backward()
    torch.distributed.all_reduce(part.weight.grad)
    torch.distributed.all_reduce(part.bias.grad)

    def error(x, y):
        return ((x - y).abs().max() / y.abs().max()).item()

    errors = {
        "output": error(made, expected[mine]),
        "input gradient": error(b.grad, a.grad[mine]),
        "weight gradient": error(part.weight.grad, whole.weight.grad),
        "bias gradient": error(part.bias.grad, whole.bias.grad),
        "running mean": error(part.running_mean, whole.running_mean),
        "running variance": error(part.running_var, whole.running_var),
        "batches": float(part.num_batches_tracked - whole.num_batches_tracked),
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = part(b.bfloat16())
        errors["bf16"] = error(low[:, 0].float(), expected[mine][:, 0])
    errors["eval"] = error(part.eval()(values[mine]), part.eval()(values)[mine])
    layout = [t.is_contiguous(memory_format=torch.channels_last) for t in (made, low)]
    result = {"errors": errors, "layout": layout, "dtype": [str(made.dtype), str(low.dtype)]}
    (folder / f"norm-{rank}.json").write_text(json.dumps(result))


def _time_budget(rank, folder):
    clock = Clock()
    reporting.perf_counter, real = clock, reporting.perf_counter
    stage, rates = timed(clock, 2.0 + 2.0 * rank)
    outcome = train(folder / "budget", [stage], time_budget_s=20.0)
    reporting.perf_counter = real
    (folder / f"budget-{rank}.json").write_text(json.dumps([outcome.finished, outcome.step, rates]))


def main(folder):
    rank = int(os.environ["RANK"])
    # Weights that differ at the start must be made alike by the loop.
    plain = Gan(noise=0)
    if rank == 1:
        nn.init.zeros_(plain.generator[0].weight)
    train(folder / "plain", [plain])
    _norm(rank, folder)
    _global_mean(rank, folder)

    train(folder / "whole", [Gan()])
    stage = Gan()
    if rank == 1:
        stage.before_step.append(at_step(6, lambda _: os.kill(os.getpid(), signal.SIGTERM)))
    assert train(folder / "parts", [stage]).step == 6
    assert train(folder / "parts", [Gan()], resume=True).finished

    _time_budget(rank, folder)

    def message(name, hook):
        stage = Gan()
        stage.before_step.append(at_step(6, hook))
        try:
            train(folder / name, [stage])
        except StillmotionError as error:
            (folder / f"{name}-{rank}").write_text(str(error))

    message("nan", lambda batch: batch["picture"].fill_(torch.nan) if rank == 1 else None)

    def full(*_):
        raise OSError(28, "No space left on device")

    message("full", lambda _: setattr(os, "fsync", full))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
