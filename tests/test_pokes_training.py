"""The stages of a training: which there are, and that the network of ours learns to answer."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pokes_state_tools import changed
from pokes_tools import TINY_FIELDS, poked_clip
from refusals import refused
from stillmotion.files import load_tensors
from stillmotion.systems.pokes.animating import Pokes
from stillmotion.systems.pokes.config import PokesConfig
from stillmotion.systems.pokes.data import PokeDataset
from stillmotion.systems.pokes.training import FieldStage, PretrainingStage
from stillmotion.training import LoopSettings, checkpoint, fit
from stopping import ctrl_c

LEARNING = changed(
    TINY_FIELDS,
    generator__width=8,
    generator__max_width=16,
    fields__batch=4,
    fields__steps=150,
    fields__learning_rate=4e-3,
    fields__span=4,
    fields__schedule__kind="constant",
)


def batches(stage: Any, step: int) -> dict[str, Any]:
    samples = [stage.dataset[step * stage.batch + i] for i in range(stage.batch)]
    return {key: torch.stack([one[key] for one in samples]) for key in samples[0] if key != "name"}


def test_each_configuration_has_its_stages() -> None:
    clips = [poked_clip(frames=12)]
    (fields,) = Pokes.build(TINY_FIELDS).stages(clips)
    assert isinstance(fields, FieldStage)
    config = changed(PokesConfig(), size=32, encoder__width=64, clip__frames=4, pretraining__steps=3)
    config = changed(config, dynamics_training__steps=2, losses__perceptual__network="none")
    system = Pokes.build(config)
    first, second = system.stages(clips)
    assert isinstance(first, PretrainingStage)
    assert isinstance(first.dataset, PokeDataset)
    assert (first.name, first.steps, second.name, second.steps) == ("pretraining", 3, "dynamics_training", 2)
    assert system.main_stage == "dynamics_training"
    assert [stage.name for stage in system.stages(clips, only=["dynamics_training"])] == ["dynamics_training"]
    assert "has no steps" in refused(system.stages, clips, only=["interleaved"])
    assert "size 32" in refused(system.stages, [poked_clip(size=16, corner=(1, 1), by=(2, 2))])


def test_it_learns_that_the_square_goes_with_the_hand() -> None:
    """Eight clips of a square; what has been learned shows in the loss, and in where the square is."""
    directions = [(6, 0), (-4, 2), (0, 5), (3, -5), (5, 5), (-3, -4), (6, 3), (-4, 0)]
    clips = [poked_clip(f"c{i}", by=by, corner=(10 + i % 3, 11)) for i, by in enumerate(directions)]
    torch.manual_seed(0)
    system = Pokes.build(changed(LEARNING, poke__background=0.0))
    (stage,) = system.stages(clips)
    stage.networks["model"].train()
    optimizer = stage.optimizers["model"]

    def update(names: tuple[str, ...], loss: Tensor, clip_grad: float | None = None) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(stage.model.parameters(), clip_grad or 1.0)
        optimizer.step()

    losses = [stage.step(batches(stage, step), update) for step in range(stage.steps)]
    begins, ends = (sum(float(found["displacement"]) for found in part) / 10 for part in (losses[:10], losses[-10:]))
    assert ends < 0.4 * begins
    clip = clips[0]
    steps = list(system.animate(clip.frames[0], system.control_of(clip), 6, size="model"))
    bright = steps[-1].frame[..., 0].astype(float).clip(120) - 120
    columns = bright.sum(0) @ range(32) / bright.sum()
    assert abs(columns - (13 + 6)) < 1.5  # the middle of the square was in column 13, and goes 6 to the right


def test_a_resumed_training_is_that_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """Weights, averages and moments are the same bit for bit; stopped after one of three steps."""
    clips = [poked_clip(f"c{i}", by=(6, i), corner=(9 + i, 10)) for i in range(3)]
    settings = LoopSettings(preview_every=0, precision="fp32", threads=1)
    config = changed(LEARNING, fields__steps=3, clip__augmentation="varied")

    def trained(run: Path, resume: bool = False) -> tuple[bool, dict[str, Tensor], dict[str, Tensor]]:
        torch.manual_seed(3)
        (stage,) = Pokes.build(config).stages(clips)
        outcome = fit([stage], run, settings, config={}, resume=resume)
        made = checkpoint.find_last(run, ["fields"])
        assert made is not None
        tensors = {
            f"{file.stem}/{name}": value
            for file in sorted(made.folder.glob("*.safetensors"))
            for name, value in load_tensors(file).items()
        }
        return outcome.finished, dict(stage.model.state_dict()), tensors

    finished, weights, stored = trained(tmp_path / "whole")
    assert finished
    with ctrl_c():
        assert not trained(tmp_path / "parts")[0]
    finished, again, stored_again = trained(tmp_path / "parts", resume=True)
    assert finished
    for one, other in ((weights, again), (stored, stored_again)):
        assert list(one) == list(other)
        assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_previews_show_two_rows_per_clip() -> None:
    (stage,) = Pokes.build(TINY_FIELDS).stages([poked_clip()])
    assert stage.preview()["answers"].shape == (2 * 2 * 32, 2 * 6 * 32, 3)
