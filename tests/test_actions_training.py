"""The stages of `actions`: who learns in which step, labels, alarms, resuming."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actions_tools import (
    TINY,
    TINY_FIELDS,
    TINY_FIELDS_VAE,
    action_clips,
    batch_of,
    changed,
    changed_parts,
    copied,
    train,
)
from actions_tools import Update as Noted
from driving_tools import TINY as TINY_DRIVING
from refusals import refused
from stillmotion.animate import load
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionWarning
from stillmotion.files import load_tensors
from stillmotion.keypoints.training import KeypointSupervision, PairTraining
from stillmotion.systems.actions.animating import Actions
from stillmotion.systems.actions.config import PRESETS, ActionsConfig
from stillmotion.systems.actions.training import (
    LEAST_NATS,
    MotionTraining,
    TrackTraining,
    TranslationTraining,
    keypoints_of,
)
from stillmotion.systems.driving.animating import Driving
from stillmotion.train import TrainRequest
from stillmotion.train import train as run_training
from stillmotion.training import LoopSettings, fit

LOOP = LoopSettings(checkpoint_every=2, preview_every=0, precision="fp32", threads=1, log_every=1)
STAGE = {"steps": 4, "batch": 4}
TINY_PAPER = replace(
    changed(TINY, size=32, losses__perceptual__network="random-vgg16", actions=("left", "right")),
    keypoints_training=replace(TINY.keypoints_training, **STAGE),
    motion_training=replace(TINY.motion_training, **STAGE),
)
NO_VGG = changed(TINY_PAPER, losses__perceptual__weight=0.0)


def stage_of(config: ActionsConfig, name: str, folder: Path | None = None, clips: Any = None) -> Any:
    system = Actions.build(config)
    (stage,) = system.stages(clips or action_clips(), only=[name])
    if folder is not None:
        stage.begin(folder)
    return stage


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# --- which there are -----------------------------------------------------------------------------------------------
def test_each_configuration_has_its_stages() -> None:
    clips = action_clips()
    paper = Actions.build(TINY_PAPER)
    first, second = paper.stages(clips)
    assert isinstance(first, TranslationTraining)
    assert isinstance(second, MotionTraining)
    assert [(stage.name, stage.steps, stage.batch) for stage in (first, second)] == [
        ("keypoints", 4, 4),
        ("motion", 4, 4),
    ]
    ours = Actions.build(TINY_FIELDS).stages(clips)
    assert [type(stage) for stage in ours] == [PairTraining, TrackTraining]
    assert [stage.name for stage in ours] == ["joint", "motion"]
    vae = Actions.build(TINY_FIELDS_VAE).stages(clips, only=["motion"])
    assert [type(stage) for stage in vae] == [MotionTraining]
    joints = [Actions.build(TINY_FIELDS).example_clip(6)]
    guided = changed(TINY_FIELDS, keypoint_supervision__steps=2)
    assert [type(s) for s in Actions.build(guided).stages(joints)] == [
        KeypointSupervision,
        PairTraining,
        TrackTraining,
    ]
    assert "has no steps" in refused(paper.stages, clips, only=["keypoint_supervision"])
    assert "joint" in refused(Actions.build(TINY_PAPER).stages, clips, only=["joint"])
    assert "size 32" in refused(paper.stages, action_clips(size=16, side=4))
    assert "no clips" in refused(paper.stages, [])


def test_presets_have_the_stages_of_their_networks() -> None:
    small = PRESETS["small"]
    assert [stage.name for stage in small.pair_stages] == ["frozen_detector", "joint", "joint2", "truth"]
    assert small.tracks is not None
    for name, config in PRESETS.items():
        assert (config.fields is None) == name.startswith(("paper", "release"))
        assert config.motion_training.steps > 0
    assert Actions.build(TINY_FIELDS).main_stage == "motion"


# --- stage 1 (section 12, line 9) ----------------------------------------------------------------------------------
def test_each_update_of_the_first_stage_changes_its_own_networks() -> None:
    stage = stage_of(TINY_PAPER, "keypoints")
    states, changes = [(copied(stage.model), copied(stage.discriminator))], []

    class Watched(Noted):
        def __call__(self, names: Any, loss: torch.Tensor, **options: Any) -> None:
            super().__call__(names, loss, **options)
            model, discriminator = states[-1]
            changed = changed_parts(stage.model, model), bool(changed_parts(stage.discriminator, discriminator))
            # Norms count as they see frames, before either update.
            changes.append(({part for part in changed[0] if weights_changed(stage.model, model, part)}, changed[1]))
            states.append((copied(stage.model), copied(stage.discriminator)))

    update = Watched(stage)
    (told,) = train(stage, 1, update)
    assert update.names == ["discriminator", "generator"]
    assert changes == [(set(), True), ({"detector", "encoder", "translator"}, False)]
    assert set(told) == {"perceptual", "gan", "discriminator", "kept", "keypoint_spread"}


def weights_changed(network: torch.nn.Module, before: dict[str, torch.Tensor], part: str) -> bool:
    return any(
        not torch.equal(value, before[name]) for name, value in network.named_parameters() if name.startswith(part)
    )


def test_ablations_of_the_first_stage_take_a_step() -> None:
    for changes in (
        {"translator__mask": False, "translator__reference_maps": False},
        {"translator__mask": False},
        {"losses__gan": 0.0, "losses__perceptual__weight": 1.0},
    ):
        stage = stage_of(changed(NO_VGG, **changes), "keypoints")
        before = copied(stage.model)
        (told,) = train(stage)
        assert ("kept" in told) is ("translator__mask" not in changes)
        assert ("discriminator" in told) is ("losses__gan" not in changes)
        assert changed_parts(stage.model, before) == {"detector", "encoder", "translator"}


# --- stage 2 -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("config", [NO_VGG, TINY_FIELDS, TINY_FIELDS_VAE], ids=["paper", "tracks", "fields-vae"])
def test_the_second_stage_leaves_the_first_untouched(config: ActionsConfig, tmp_path: Path) -> None:
    """Line 9: weights and moving averages of detector and translator, bit for bit."""
    stage = stage_of(config, "motion", tmp_path)
    before, update = copied(stage.model), Noted(stage)
    (told,) = train(stage, 1, update)
    assert changed_parts(stage.model, before) == {"motion"}
    if config.tracks:
        assert update.names == ["motion"]
        assert set(told) == {"velocity"}
    else:
        assert update.names == ["discriminator", "motion"]
        assert set(told) == {"discriminator", "kl", "reconstruction", "gan", "nats"}


def test_each_update_of_the_second_stage_changes_its_own_network(tmp_path: Path) -> None:
    stage = stage_of(NO_VGG, "motion", tmp_path)
    for name in ("discriminator", "motion"):
        before = copied(stage.motion), copied(stage.discriminator)
        for optimizer in set(stage.optimizers) - {name}:
            stage.optimizers[optimizer].step = lambda: None
        train(stage)
        found = [bool(changed_parts(n, b)) for n, b in zip((stage.motion, stage.discriminator), before, strict=True)]
        assert found == [name == "motion", name == "discriminator"]
        stage = stage_of(NO_VGG, "motion", tmp_path)


def test_without_a_sequence_discriminator_and_without_actions_it_takes_a_step(tmp_path: Path) -> None:
    stage = stage_of(changed(NO_VGG, motion__sequence_discriminator=False), "motion", tmp_path / "a")
    assert set(train(stage)[0]) == {"kl", "reconstruction", "nats"}
    bare = [replace(clip, meta={}) for clip in action_clips()]
    for config in (NO_VGG, TINY_FIELDS):
        stage = stage_of(replace(config, actions=()), "motion", tmp_path / "b", bare)
        before = copied(stage.motion)
        train(stage)
        assert changed_parts(stage.motion, before)


def test_labels_are_those_of_the_finished_detector_in_eval_mode(tmp_path: Path) -> None:
    for config in (NO_VGG, TINY_FIELDS):
        stage = stage_of(config, "motion", tmp_path)
        clip, model = action_clips()[0], stage.model.eval()
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            expected = model.labeller()(frames).numpy()
        assert expected.shape == (len(clip), 3, 2 if config is NO_VGG else 6)
        np.testing.assert_allclose(stage.dataset.keypoints[0], expected, atol=1e-5)
        assert (tmp_path / "keypoints").is_dir()


def test_windows_become_keypoints_with_the_still_first(tmp_path: Path) -> None:
    stage = stage_of(TINY_FIELDS, "motion", tmp_path)
    batch = batch_of(stage)
    window, first = keypoints_of(batch)
    assert window.mean.shape == (4, 6, 3, 2)
    assert window.covariance.shape == (4, 6, 3, 2, 2)
    assert torch.equal(window.mean[:, 0], batch["first"][..., :2])
    assert torch.equal(window.mean[:, 1:], batch["points"][..., :2])
    assert torch.equal(first.covariance.flatten(-2), batch["first"][..., 2:])
    assert stage.motion.scale.min() >= 1e-3
    assert stage.motion.scale.unique().numel() > 1


# --- alarms --------------------------------------------------------------------------------------------------------
def test_a_collapsed_posterior_is_told_once_in_the_second_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stillmotion.systems.actions import losses

    monkeypatch.setattr(losses, "kl_divergence", lambda mean, std: 0 * mean + LEAST_NATS / 2 / mean.shape[1])
    stage = stage_of(changed(NO_VGG, motion_training__steps=6), "motion", tmp_path)
    capsys.readouterr()
    update = Noted(stage)
    train(stage, 4, update)
    assert capsys.readouterr().err == ""
    train(stage, 2, update)
    assert capsys.readouterr().err == "The posterior has collapsed: its divergence is 0.25 nats in all.\n"


def test_samples_that_are_all_alike_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = stage_of(NO_VGG, "motion", tmp_path)
    with torch.no_grad():
        for value in stage.motion.decoder.parameters():
            value.zero_()
    capsys.readouterr()
    assert stage.preview()["tracks"].shape == (4 * 160, 3 * 160, 3)
    assert capsys.readouterr().err == "Samples of one action differ by 0% of what real clips do.\n"


def test_previews_of_the_first_stage_show_a_row_per_clip() -> None:
    sheet = stage_of(NO_VGG, "keypoints").preview()["translations"]
    assert sheet.shape == (4 * 64, 5 * 64, 3)


# --- resuming ------------------------------------------------------------------------------------------------------
class Stopped(Exception):
    pass


@pytest.mark.parametrize("config", [NO_VGG, TINY_FIELDS], ids=["vae", "tracks"])
def test_a_resumed_training_is_the_uninterrupted_one(
    config: ActionsConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stages(stop_at: int | None = None) -> list[Any]:
        torch.manual_seed(0)
        made = Actions.build(config).stages(action_clips(), only=["motion"])
        if stop_at is not None:
            step, count = made[0].step, [0]

            def stopping(batch: Any, update: Any) -> Any:
                count[0] += 1
                if count[0] > stop_at:
                    raise Stopped
                return step(batch, update)

            monkeypatch.setattr(made[0], "step", stopping)
        return made

    whole = stages()
    assert fit(whole, tmp_path / "whole", LOOP, config={"a": 1}).finished
    with pytest.raises(Stopped):
        fit(stages(stop_at=3), tmp_path / "parts", LOOP, config={"a": 1})
    resumed = stages()
    assert fit(resumed, tmp_path / "parts", LOOP, config={"a": 1}, resume=True).finished
    one, other = whole[0].networks["motion"].state_dict(), resumed[0].networks["motion"].state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


# --- from a data set -----------------------------------------------------------------------------------------------
def test_a_configuration_is_suited_to_its_clips() -> None:
    clips = [
        replace(clip, meta={**clip.meta, "side": side}) for clip, side in zip(action_clips(), "lrlr", strict=True)
    ]
    open_ones = replace(TINY_FIELDS, actions=None, sides=None)
    suited = Actions.suited(open_ones, clips)
    assert (suited.actions, suited.sides) == (("left", "right"), ("l", "r"))
    assert Actions.suited(TINY_FIELDS, clips) == TINY_FIELDS
    named = replace(TINY_FIELDS, actions=("jump",))
    assert Actions.suited(named, clips).actions == ("jump",)
    with pytest.warns(StillmotionWarning, match="single clip"):
        Actions.suited(open_ones, clips[:2])
    assert "has no 'action'" in refused(Actions.suited, open_ones, [replace(clips[0], meta={})])
    assert Driving.suited(TINY_DRIVING, clips) is TINY_DRIVING


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", action_clips(), info=DatasetInfo(title="squares"))
    return tmp_path / "data"


def test_keypoints_of_another_system_are_taken_over_in_parts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--from driving-... --parts detector,generator --stages motion`."""
    from driving_tools import tiny_driving

    monkeypatch.setitem(PRESETS, "small", replace(TINY_FIELDS, actions=None))
    given = tiny_driving(**{"size": 32})
    given.save_pretrained(tmp_path / "given")
    asked = TrainRequest(
        "actions",
        (str(data),),
        tmp_path / "run",
        start_from=str(tmp_path / "given"),
        parts=("detector", "generator"),
        stages=("motion",),
    )
    assert run_training(asked, LOOP).endswith("trained for 4 steps")
    system = load(tmp_path / "run").system
    assert system.config.actions == ("left", "right")
    there, here = load_tensors(tmp_path / "given" / "model.safetensors"), system.networks.state_dict()
    taken = {name for name in here if name.startswith(("detector", "generator"))}
    assert taken
    assert all(torch.equal(here[name], there[name]) for name in taken)
    told = refused(run_training, replace(asked, run=tmp_path / "more", parts=()), LOOP)
    assert "--from names a driving model" in told
    assert "--parts" in told
    assert "names no weights" in refused(run_training, replace(asked, run=tmp_path / "no", parts=("eyes",)), LOOP)
