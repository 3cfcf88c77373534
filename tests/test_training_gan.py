"""The loop on a very small GAN with batch norm; also the script that other tests run in own processes."""

import argparse
import json
import os
import pickle
import signal
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from refusals import refuses
from stillmotion.errors import StillmotionError
from stillmotion.files import load_tensors
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.training import LoopSettings, fit, stage_weights

CONFIG = {"width": 4, "learning_rate": 0.01}
SETTINGS = LoopSettings(
    seed=3, checkpoint_every=4, keep=2, log_every=3, preview_every=0, precision="fp32", ema_decay=0.5, threads=1
)


class Pictures(torch.utils.data.Dataset):
    """Sample n is noise seeded by n."""

    def __getitem__(self, n):
        generator = torch.Generator().manual_seed(n)
        return {"picture": torch.randn(3, 8, 8, generator=generator), "name": f"clip{n % 7}"}

    def __len__(self):
        return 7


class Gan:
    """One stage: the discriminator's loss, then the generator's."""

    def __init__(self, name="gan", steps=12, batch=4, noise=0.1, pause=0.0):
        with torch.random.fork_rng():
            torch.manual_seed(len(name))
            self.generator = nn.Sequential(
                # No bias before batch norm: its gradient is rounding noise, which Adam makes full steps of.
                nn.Conv2d(3, 4, 3, padding=1, bias=False),
                BatchNorm2d(4),
                nn.ReLU(),
                nn.Conv2d(4, 3, 3, padding=1),
            )
            self.discriminator = nn.Sequential(
                nn.Conv2d(3, 4, 3, bias=False), BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)
            )
        self.name, self.steps, self.batch, self.noise, self.pause = name, steps, batch, noise, pause
        self.dataset = Pictures()
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimizers = {
            "generator": torch.optim.Adam(self.generator.parameters(), 0.01, betas=(0.5, 0.9)),
            "discriminator": torch.optim.AdamW(self.discriminator.parameters(), 0.01, amsgrad=True),
        }
        self.schedulers = {
            "generator": torch.optim.lr_scheduler.MultiStepLR(self.optimizers["generator"], [5, 9], 0.5),
            "discriminator": torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizers["discriminator"], steps),
        }
        self.ema = {"generator": self.generator}
        self.generators = {"noise": torch.Generator()}
        self.before_step = []

    def step(self, batch, update):
        time.sleep(self.pause)
        for hook in self.before_step:
            hook(batch)
        real = batch["picture"]
        # Both sources of randomness that the loop promises to store.
        drawn = torch.randn(real.shape, generator=self.generators["noise"]).to(real.device) + torch.randn_like(real)
        fake = self.generator(real + self.noise * drawn)
        d_loss = (1 - self.discriminator(real)).relu().mean() + (1 + self.discriminator(fake.detach())).relu().mean()
        update("discriminator", d_loss)
        g_loss = (fake - real).abs().mean() - self.discriminator(fake).mean()
        update("generator", g_loss, clip_grad=5.0)
        return {"d": d_loss.detach(), "g": g_loss.detach()}


def train(run, stages, resume=False, config=CONFIG, **changes):
    return fit(stages, run, LoopSettings(**{**vars(SETTINGS), **changes}), config=config, resume=resume)


def everything(run, name):
    """All tensors of a checkpoint."""
    found = {}
    for path in sorted((run / "checkpoints" / name).glob("*.safetensors")):
        found |= {f"{path.stem}/{key}": value for key, value in load_tensors(path).items()}
    return found


def same(a, b):
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def losses(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["stage"], line["step"], line["losses"], line["lr"]) for line in lines if "losses" in line]


def at_step(number, action):
    """A hook that acts in the step of that number (from 1)."""
    count = iter(range(1, 10_000))
    return lambda batch: action(batch) if next(count) == number else None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two stages that nothing interrupted; 12 and 6 steps."""
    run = tmp_path_factory.mktemp("whole") / "run"
    outcome = train(run, [Gan(), Gan("second", steps=6)])
    assert outcome.finished
    return run


def test_checkpoints_are_kept_as_promised_and_hold_no_pickle(whole):
    # Stage "gan" saves at 4, 8, 12 and keeps 2; stage "second" at 4 and 6.
    names = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert names == ["gan-000008", "gan-000012", "second-000004", "second-000006"]
    assert json.loads((whole / "last.json").read_text()) == {"checkpoint": "second-000006"}
    for path in (whole / "checkpoints").rglob("*.*"):
        content = path.read_bytes()
        assert not zipfile.is_zipfile(path)
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever; it must not be a pickle
            pickle.loads(content)
        if path.suffix == ".safetensors":
            json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        else:
            json.loads(content)


@pytest.mark.parametrize("stop", [1, 4, 6, 12, 15])
def test_a_stopped_and_resumed_run_is_the_whole_run_bit_for_bit(whole, tmp_path, stop):
    def stages():
        return [Gan(), Gan("second", steps=6)]

    first = stages()
    ends = at_step(stop, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    for stage in first:
        stage.before_step.append(ends)
    outcome = train(tmp_path, first)
    assert (outcome.finished, outcome.stopped_by) == (False, "SIGTERM")
    assert (outcome.stage, outcome.step) == (("gan", stop) if stop <= 12 else ("second", stop - 12))
    # A new process would construct anew, and its global generators would be anywhere.
    torch.manual_seed(999)
    again = stages()
    with torch.no_grad():
        for stage in again:
            for parameter in stage.generator.parameters():
                parameter.fill_(7.0)
    assert train(tmp_path, again, resume=True).finished
    for name in ("gan-000012", "second-000006"):
        assert same(everything(tmp_path, name), everything(whole, name))
    assert losses(tmp_path) == losses(whole)
    assert [step for _, step, *_ in losses(whole)] == [3, 6, 9, 12, 3, 6]


def test_another_seed_gives_other_weights(whole, tmp_path):
    train(tmp_path, [Gan()], seed=4)
    assert not same(everything(tmp_path, "gan-000012"), everything(whole, "gan-000012"))


def test_previews_change_nothing(whole, tmp_path):
    stage = Gan()

    def preview():
        assert not stage.generator.training
        assert not torch.is_grad_enabled()
        torch.rand(5)
        torch.rand(5, generator=stage.generators["noise"])
        with torch.no_grad():
            stage.generator[0].weight.add_(1)
        return {"a sheet": np.full((4, 6, 3), 7, np.uint8)}

    stage.preview = preview
    train(tmp_path, [stage], preview_every=5)
    assert same(everything(tmp_path, "gan-000012"), everything(whole, "gan-000012"))
    names = sorted(path.name for path in (tmp_path / "previews").iterdir())
    assert names == ["gan-000005-a_sheet.png", "gan-000010-a_sheet.png", "gan-000012-a_sheet.png"]


def test_an_update_leaves_the_other_network_as_it_is_bit_for_bit(tmp_path):
    stage = Gan(steps=2)
    seen = []

    def step(batch, update):
        def copy(network):
            return OrderedDict((k, v.detach().clone()) for k, v in network.named_parameters())

        before = [copy(stage.generator), copy(stage.discriminator)]
        # This loss goes through both networks, and every parameter holds a gradient already.
        for network in stage.networks.values():
            for parameter in network.parameters():
                parameter.grad = torch.ones_like(parameter)
        loss = stage.discriminator(stage.generator(batch["picture"])).mean()
        update("generator", loss)
        seen.append((same(before[0], copy(stage.generator)), same(before[1], copy(stage.discriminator))))
        seen.append(all(p.grad is None for p in stage.discriminator.parameters()))
        return {"loss": loss.detach()}

    stage.step, stage.schedulers = step, {}
    train(tmp_path, [stage])
    assert seen == [(False, True), True] * 2


def test_gradients_of_earlier_losses_are_not_added(tmp_path):
    """A step of plain descent by hand: weight 1, loss 3 * weight, rate 0.1 twice, gives 0.4."""
    stage = Gan(steps=1)
    weight = nn.Parameter(torch.ones(1))
    stage.networks = {"generator": nn.ParameterDict({"w": weight})}
    stage.ema = stage.schedulers = {}
    stage.optimizers = {"one": torch.optim.SGD([weight], 0.1)}

    def step(batch, update):
        update("one", 3 * weight.sum())
        update("one", 3 * weight.sum())
        return {"w": weight.detach().sum()}

    stage.step = step
    train(tmp_path, [stage])
    assert weight.item() == pytest.approx(0.4)


def test_two_optimisers_may_share_a_loss_and_clipping_is_over_both(tmp_path):
    """Gradients 3 and 4 have norm 5; clipped to 1 they are 0.6 and 0.8; rates 1 and 10."""
    stage = Gan(steps=1)
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    stage.networks, stage.ema, stage.schedulers = {"net": nn.ParameterList([a, b])}, {}, {}
    stage.optimizers = {"a": torch.optim.SGD([a], 1.0), "b": torch.optim.SGD([b], 10.0)}
    stage.step = lambda batch, update: update(("a", "b"), (3 * a + 4 * b).sum(), clip_grad=1.0) or {}
    train(tmp_path, [stage])
    assert (a.item(), b.item()) == (pytest.approx(-0.6, rel=1e-5), pytest.approx(-8.0, rel=1e-5))


def test_bf16_sees_the_new_weights_within_a_step(tmp_path):
    """Autocast caches bf16 copies of weights for the whole step; the second pass must not use the old one."""
    stage = Gan(steps=1)
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    stage.networks, stage.ema, stage.schedulers = {"net": layer}, {}, {}
    stage.optimizers = {"net": torch.optim.SGD(layer.parameters(), 0.5)}
    seen = []

    def step(batch, update):
        for _ in range(3):
            made = layer(torch.ones(1, 1))
            seen.append((made.dtype, made.item()))
            update("net", made.sum())
        return {}

    stage.step = step
    train(tmp_path, [stage], precision="bf16")
    assert seen == [(torch.bfloat16, 1.0), (torch.bfloat16, 0.5), (torch.bfloat16, 0.0)]


def test_average_of_weights_is_taken_over_at_the_end_and_used_by_stage_weights(tmp_path):
    """Decay min(0.5, (1+n)/(10+n)): 0.1, 2/11, 0.25; the weight goes 0, 1, 2, 3."""
    stage = Gan(steps=3)
    weight = nn.Parameter(torch.zeros(1))
    network = nn.ParameterDict({"w": weight})
    stage.networks, stage.ema, stage.schedulers = {"net": network}, {"net": network}, {}
    stage.optimizers = {"net": torch.optim.SGD([weight], 1.0)}
    stage.step = lambda batch, update: update("net", -weight.sum()) or {}
    train(tmp_path, [stage])
    one = 0.1 * 0 + 0.9 * 1
    two = 2 / 11 * one + 9 / 11 * 2
    three = 0.25 * two + 0.75 * 3
    assert weight.item() == pytest.approx(three, rel=1e-6)
    assert stage_weights(tmp_path, "gan")["net"]["w"].item() == pytest.approx(three, rel=1e-6)
    assert everything(tmp_path, "gan-000003")["model/net.w"].item() == 3.0


def test_a_finished_run_resumes_to_its_final_weights(whole):
    stages = [Gan(), Gan("second", steps=6)]
    assert train(whole, stages, resume=True).finished
    for stage in stages:
        final = stage_weights(whole, stage.name)["generator"]
        assert same(final, dict(stage.generator.state_dict()))


def test_networks_that_come_in_eval_mode_are_trained_with_batch_norm_and_left_in_eval_mode(tmp_path):
    """Systems hand over networks in eval mode; a loop that leaves them so trains without normalisation, silently."""
    stage = Gan(steps=2)
    for network in stage.networks.values():
        network.eval()
    train(tmp_path / "run", [stage])
    norm = stage.generator[1]
    assert int(norm.num_batches_tracked) == 2
    assert norm.running_mean.abs().max() > 0
    assert not any(module.training for network in stage.networks.values() for module in network.modules())


def test_a_stage_without_the_optional_members_trains(tmp_path):
    stage = Gan(steps=2, noise=0)
    del stage.schedulers, stage.ema
    assert train(tmp_path, [stage]).finished


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"batch": 0}, StillmotionError),
        ({"steps": 0}, StillmotionError),
        ({"name": "a-b"}, ValueError),
        ({"networks": {"a.b": nn.Linear(1, 1)}}, ValueError),
        ({"ema": {"generator": nn.Linear(1, 1)}}, ValueError),
    ],
)
def test_stages_that_cannot_be_trained_are_refused(tmp_path, change, error):
    stage = Gan()
    for name, value in change.items():
        setattr(stage, name, value)
    with pytest.raises(error):
        train(tmp_path, [stage])
    refuses("different names", train, tmp_path, [Gan(), Gan()], error=ValueError)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"keep": 0},
        {"log_every": 0},
        {"ema_decay": 1.0},
        {"precision": "fp8"},
        {"threads": 0},
        {"time_budget_s": 0.0},
        {"time_budget_s": float("nan")},
        {"device": "tpu"},
    ],
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(StillmotionError, match=next(iter(change))):
        LoopSettings(**change)


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuses("no CUDA device", train, tmp_path / "run", [Gan()], device="cuda")
    assert not (tmp_path / "run").exists()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    outcome = train(arguments.run, [Gan(pause=arguments.pause)], workers=arguments.workers)
    print(outcome)


if __name__ == "__main__":
    main()
