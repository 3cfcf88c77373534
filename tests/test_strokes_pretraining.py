"""The stages of strokes before the paper's: autoencoder and latent prediction."""

from typing import Any

import numpy as np
import pytest
import torch

from refusals import refuses
from stillmotion.systems.strokes import training
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.data import mask_background
from stillmotion.systems.strokes.networks import Context, StrokesNetworks
from stillmotion.systems.strokes.object_frame import GeneratorOutput, object_frame
from stillmotion.systems.strokes.training import LatentPredictionStage, rollout_length, stages
from stillmotion.systems.strokes.visualization import rollout_sheet
from strokes_tools import TINY_FIELDS, TINY_OBJECT, TINY_STROKES, changed, moves, predict_by_hand
from strokes_training_tools import (
    ADVERSARIAL,
    PEOPLE,
    Update,
    batch_of,
    blinking_clip,
    changed_parts,
    copied,
    make_stage,
    square_clip,
    train,
)


def test_a_pair_is_the_steps_between_its_frames_in_one() -> None:
    """The object's frame of reference and the view are those of the step that ends at the frame."""
    torch.manual_seed(0)
    model = StrokesNetworks(PEOPLE)
    frames = torch.rand(2, 4, 3, 16, 16) * 2 - 1
    points = 4 + torch.rand(2, 4, 2) * 5
    pair = points[:, [0, 3]]
    assert torch.equal(model.align(frames[:, 3], pair, 1), model.align(frames[:, 3], points, 3))
    assert torch.equal(model.align(frames[:, 0], pair, 0), model.align(frames[:, 0], points, 0))
    assert torch.equal(object_frame(pair, 1, PEOPLE).shift, object_frame(points, 3, PEOPLE).shift)


def test_noise_is_added_to_what_g_is_given_and_large_codes_cost() -> None:
    config = changed(PEOPLE, autoencoder__latent_noise_std=0.5, autoencoder__latent_l2_weight=3.0)
    stage = make_stage("autoencoder", config, [blinking_clip()])
    code = torch.full((64, 16, 4, 4), 2.0)
    noisy = stage.add_noise(code)
    assert noisy.mean().item() == pytest.approx(2.0, abs=0.02)
    assert noisy.std().item() == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(stage.add_noise(code), noisy)
    batch = batch_of(stage, 4)
    terms = stage.step(batch, lambda name, loss, clip_grad=None: None)
    codes = stage.model.encode(batch["driving"] * 2 - 1, batch["points"], 1)
    torch.testing.assert_close(terms["latent_l2"], 3 * codes.square().mean().detach())


def test_e1_is_shown_what_moves_and_g_must_generate_the_whole_frame() -> None:
    """With `mask_background` the code is that of the object on grey; the still is seen whole."""
    config = changed(PEOPLE, clip__mask_background=True, autoencoder__latent_l2_weight=1.0)
    stage = make_stage("autoencoder", config, [blinking_clip(mask=True)])
    batch = batch_of(stage, 4)
    background = (batch["driving"] * 255).round() == 90
    shown = mask_background(batch["driving"], batch["masks"][:, 1])
    assert (shown[background] == 0.5).all()
    torch.testing.assert_close(shown[~background], batch["driving"][~background])
    terms = stage.step(batch, lambda name, loss, clip_grad=None: None)
    codes = stage.model.encode(shown * 2 - 1, batch["points"], 1)
    torch.testing.assert_close(terms["latent_l2"], codes.square().mean().detach())
    plain = make_stage("autoencoder", PEOPLE, [blinking_clip(mask=True)])
    baseline = plain.step(batch_of(plain, 4), lambda name, loss, clip_grad=None: None)["copy"]
    torch.testing.assert_close(terms["copy"], baseline)  # targets are not masked


def test_it_learns_what_the_still_does_not_show_and_touches_neither_e2_nor_p() -> None:
    stage = make_stage("autoencoder", PEOPLE, [blinking_clip(), blinking_clip("b", (40, 200, 40))])
    before = copied(stage.model)
    found = [terms["reconstruction"] / terms["copy"] for terms in train(stage, 150, 16)]
    assert found[-1] < 0.7 * found[0]
    assert changed_parts(stage.model, before) == {"encoder", "decoder"}
    sheet = stage.preview()["autoencoding"]
    assert sheet.shape == (2 * 2 * 16, 8 * 16, 3)
    stage.model.config = changed(PEOPLE, clip__mask_background=True)
    assert not np.array_equal(stage.preview()["autoencoding"], sheet)
    assert stage.model.training


# --- which stages --------------------------------------------------------------------------------------------------
def names(only: tuple[str, ...] = (), **changes: Any) -> list[str]:
    system = Strokes.build(changed(PEOPLE, **changes))
    return [stage.name for stage in stages(system, [blinking_clip(), blinking_clip("b")], only=only)]


def test_stages_by_name_and_number_of_steps() -> None:
    assert names() == ["autoencoder", "single_step"]
    assert names(autoencoder__steps=0) == ["single_step"]
    assert names(("single_step",)) == ["single_step"]
    assert names(("autoencoder",)) == ["autoencoder"]
    assert names(latent_prediction__steps=9, generator_finetuning__steps=4, annealing__steps=2) == [
        "autoencoder",
        "latent_prediction",
        "generator_finetuning",
        "single_step",
        "annealing",
    ]
    assert names(("generator_finetuning",), generator_finetuning__steps=4) == ["generator_finetuning"]
    refuses("stage latent_prediction has no steps", names, ("latent_prediction",))
    known = "autoencoder, latent_prediction, generator_finetuning, single_step, annealing"
    refuses(f"known are {known}", names, ("predict",))


def test_what_bench_times_is_the_papers_stage_or_the_last_one() -> None:
    assert Strokes.build(TINY_STROKES).main_stage == "single_step"
    people = changed(PEOPLE, single_step__steps=0)
    assert Strokes.build(people).main_stage == "autoencoder"
    assert Strokes.build(changed(people, generator_finetuning__steps=1)).main_stage == "generator_finetuning"


@pytest.mark.parametrize(
    ("changes", "clips", "only", "words"),
    [
        ({}, [], (), "no clips to train on"),
        ({"size": 64}, None, (), "clips are 32 x 32 pixels where the configuration says size 64"),
        ({"clip__frames": 9}, None, (), "No clip has 9 frames in a row with a point each.*--tracks points"),
        ({"clip__augmentation": "wild"}, None, (), "no augmentation 'wild'"),
        ({}, None, ("motion",), "no stage 'motion'"),
        ({"losses__perceptual__weight": 1.0}, None, (), "needs the weights of vgg16"),
    ],
)
def test_what_cannot_be_trained_is_told(changes: Any, clips: Any, only: Any, words: str) -> None:
    system = Strokes.build(changed(TINY_STROKES, **changes))
    refuses(words, stages, system, [square_clip()] if clips is None else clips, (), only)


def test_samples_of_stages_are_unrelated_and_those_of_a_seed_the_same() -> None:
    system = Strokes.build(changed(TINY_STROKES, annealing__steps=1))
    clips = [square_clip(f"c{i}", seed=i) for i in range(9)]
    first, second = stages(system, clips, seed=1)
    (again, _), (other, _) = stages(system, clips, seed=1), stages(system, clips, seed=2)
    orders = [[stage.dataset[n]["name"] for n in range(8)] for stage in (first, again, second, other)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_there_is_one_optimiser_per_network_and_only_what_animates_is_averaged() -> None:
    system = Strokes.build(ADVERSARIAL)
    (stage,) = stages(system, [square_clip()])
    assert set(stage.optimizers) == {"single_step", "frame_discriminator", "pair_discriminator"}
    assert stage.ema == {"single_step": stage.networks["single_step"]}
    owned = [id(p) for o in stage.optimizers.values() for g in o.param_groups for p in g["params"]]
    networks = [system.networks, stage.discriminators.frame, stage.discriminators.pair]
    assert sorted(owned) == sorted(id(p) for network in networks for p in network.parameters())
    (plain,) = stages(Strokes.build(TINY_STROKES), [square_clip()])
    assert set(plain.optimizers) == {"single_step"}


CONFIG = changed(
    PEOPLE,
    clip__frames=6,
    latent_prediction__steps=120,
    latent_prediction__batch=4,
    latent_prediction__learning_rate=5e-3,
    generator_finetuning__steps=60,
    generator_finetuning__learning_rate=1e-2,
)


def stage_of(name: str = "latent_prediction", **changes: object) -> LatentPredictionStage:
    clips = [blinking_clip(mask=True), blinking_clip("b", (40, 200, 40), mask=True)]
    stage: LatentPredictionStage = make_stage(name, changed(CONFIG, **changes), clips)
    return stage


@pytest.mark.parametrize(("count", "wanted"), [(15, [1, 2, 4, 8, 15]), (8, [1, 2, 4, 8]), (3, [1, 2, 3]), (1, [1])])
def test_rollouts_double_and_end_with_the_whole_window(count: int, wanted: list[int]) -> None:
    lengths = [rollout_length(i / 1000, count) for i in range(1000)]
    assert sorted(set(lengths)) == wanted
    assert lengths == sorted(lengths)
    shares = [lengths.count(length) for length in wanted]
    assert max(shares) - min(shares) <= 1


def test_codes_are_e1s_and_motion_is_that_of_each_step() -> None:
    stage = stage_of()
    model, batch = stage.model.eval(), batch_of(stage, 2)
    frames, points = batch["frames"], batch["points"]
    with torch.no_grad():
        codes, motion = stage.encode(frames, points, None), stage.encode_motion(points)
        assert codes.shape[:2] == (2, 6)
        assert motion.shape[:2] == (2, 5)
        context = model.begin(frames[:, 0] * 2 - 1, points, fast=False)
        torch.testing.assert_close(codes[:, 0], context.initial)
        for t in range(5):
            torch.testing.assert_close(codes[:, t + 1], model.encode(frames[:, t + 1] * 2 - 1, points, t + 1))
            wanted = model.predict(model.step_inputs(context, context.initial, points, t))[1]
            torch.testing.assert_close(motion[:, t], wanted)


def test_a_constant_prediction_costs_one() -> None:
    """The loss is relative to that of constant states."""
    stage = stage_of(latent_prediction__steps=1, clip__frames=2)
    with torch.no_grad():
        stage.model.predictor.transition.weight.zero_()
        stage.model.predictor.transition.bias.zero_()  # type: ignore[union-attr]
    terms = train(stage, 1, 4)[0]
    assert terms["state"] == pytest.approx(1.0, abs=1e-5)
    assert terms["last"] == pytest.approx(1.0, abs=1e-5)
    assert terms["length"] == 1.0


def test_a_rollout_goes_on_from_its_own_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a P that adds a constant, the state k steps after the start is off by k times the constant."""
    stage = stage_of(clip__frames=4)
    monkeypatch.setattr(LatentPredictionStage, "length", 3)
    with torch.no_grad():
        stage.model.predictor.transition.weight.zero_()
        stage.model.predictor.transition.bias.fill_(0.5)  # type: ignore[union-attr]
    batch = {"frames": torch.rand(2, 4, 3, 16, 16), "points": torch.full((2, 4, 2), 8.0)}
    codes = stage.encode(batch["frames"], batch["points"], None).float()
    seen: list[float] = []
    terms = stage.step(batch, lambda name, loss, clip_grad=None: seen.append(loss.item()))
    targets = codes[:, 1:]
    made = torch.stack([codes[:, 0] + 0.5 * (k + 1) for k in range(3)], dim=1)
    wanted = (made - targets).square().mean() / (codes[:, :1] - targets).square().mean()
    assert seen == [pytest.approx(wanted.item(), rel=1e-4)]
    last = (made[:, -1] - targets[:, -1]).square().mean() / (codes[:, 0] - targets[:, -1]).square().mean()
    assert float(terms["last"]) == pytest.approx(last.item(), rel=1e-4)


def test_every_piece_of_a_window_is_given_the_stills_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two roll-outs of two steps from a window of five frames: h_0 is that of frame 0 in both."""
    stage, seen = stage_of(clip__frames=5), list[torch.Tensor]()
    monkeypatch.setattr(LatentPredictionStage, "length", 2)
    stage.model.predictor.register_forward_pre_hook(lambda _, given: seen.append(given[0][1]))
    batch = {"frames": torch.rand(3, 5, 3, 16, 16), "points": torch.full((3, 5, 2), 8.0)}
    stage.step(batch, lambda name, loss, clip_grad=None: None)
    still = stage.encode(batch["frames"], batch["points"], None)[:, 0].repeat_interleave(2, dim=0)
    assert len(seen) == 2
    for initial in seen:
        torch.testing.assert_close(initial, still)


def test_it_learns_to_predict_and_touches_neither_e1_nor_g() -> None:
    stage = stage_of()
    before = copied(stage.model)
    found = train(stage, 120, 4)
    assert [found[i]["length"] for i in (0, 40, 70, 110)] == [1.0, 2.0, 4.0, 5.0]
    assert found[-1]["state"] < 0.5
    assert changed_parts(stage.model, before) == {"motion", "predictor"}
    assert stage.preview()["rollouts"].shape[-1] == 3


def test_with_a_masked_background_only_the_still_tells_of_it() -> None:
    stage = stage_of(clip__mask_background=True)
    batch = batch_of(stage, 2)
    masks, points = batch["masks"], batch["points"]
    assert masks.shape == (2, 6, 1, 16, 16)
    assert masks.flatten(2).sum(-1).tolist() == [[16.0] * 6] * 2  # the square's pixels
    other = torch.where(masks > 0, batch["frames"], torch.rand(2, 1, 3, 16, 16))
    before, after = (stage.encode(frames, points, masks) for frames in (batch["frames"], other))
    torch.testing.assert_close(before[:, 1:], after[:, 1:])
    assert not torch.allclose(before[:, 0], after[:, 0])
    torch.testing.assert_close(after[:, 0], stage.model.encode(other[:, 0] * 2 - 1, points, 0))
    masked = stage.encode(mask_background(other, masks), points, None)
    torch.testing.assert_close(after[:, 1:], masked[:, 1:])
    assert not torch.allclose(after[:, 0], masked[:, 0])


# --- generator_finetuning ------------------------------------------------------------------------------------------
def test_states_are_those_of_an_animation() -> None:
    stage = stage_of("generator_finetuning")
    model, batch = stage.model.eval(), batch_of(stage, 2)
    stills, points = batch["frames"][:, 0] * 2 - 1, batch["points"]
    _, states = stage.roll_out(stills, points, None)  # type: ignore[attr-defined]
    assert len(states) == CONFIG.clip.frames - 1
    with torch.no_grad():
        context = model.begin(stills, points, fast=False)
        state = context.initial
        for t, found in enumerate(states):
            state = model(model.step_inputs(context, state, points, t)).state
            torch.testing.assert_close(found, state, rtol=1e-4, atol=1e-4)


def test_each_state_is_compared_with_the_frame_after_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Target, object frame and what clips know of step t are those of frame t + 1."""
    monkeypatch.setattr(training, "GENERATED_STEPS", PEOPLE.clip.frames - 1)  # all of them
    config = changed(PEOPLE, size=32, generator_finetuning__steps=1)
    stage, seen = make_stage("generator_finetuning", config, [square_clip("a")]), []
    batch = batch_of(stage, 2)
    generated, compared, known = (
        (StrokesNetworks, "generate"),
        (training.losses, "reconstruction_losses"),
        (training.losses, "truth_losses"),
    )
    for place, name in (generated, compared, known):
        told = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *given, told=told: seen.append(given) or told(*given))
    stage.step(batch, lambda *_, **__: None)
    frames, points, times = batch["frames"] * 2 - 1, batch["points"], []
    generating = [given for given in seen if len(given) == 4]
    comparing = [given for given in seen if len(given) == 5 and isinstance(given[0], GeneratorOutput)]
    knowing = [given for given in seen if len(given) == 5 and isinstance(given[0], StrokesNetworks)]
    for (_, _, _, frame), (_, _, target, where, _), (*_, t) in zip(
        generating[-len(knowing) :], comparing, knowing, strict=True
    ):
        times.append(t)
        assert torch.equal(target, frames[:, t + 1])
        for used in (frame, where):
            assert torch.equal(used.shift, object_frame(points, t + 1, config).shift)
    assert sorted(times) == list(range(PEOPLE.clip.frames - 1))


def test_g_alone_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "GENERATED_STEPS", CONFIG.clip.frames - 1)  # all of them
    stage = stage_of("generator_finetuning")
    before = copied(stage.model)
    found = [terms["reconstruction"] / terms["copy"] for terms in train(stage, 60, 4)]
    assert found[-1] < 0.9 * found[0]
    assert changed_parts(stage.model, before) == {"decoder"}


# --- what clips know -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["autoencoder", "generator_finetuning", "single_step"])
@pytest.mark.parametrize("base", [TINY_FIELDS, PEOPLE])
def test_every_stage_that_generates_learns_the_fields_and_the_figure(name: str, base: StrokesConfig) -> None:
    weights = {"losses__displacement": 15.0, "losses__visibility": 1.0, "losses__figure": 1.0}
    config = changed(base, size=32, **weights, **{f"{name}__steps": 1})
    clips = [square_clip("a", known=True), square_clip("b", seed=1)]  # the other does not know its motion
    stage = make_stage(name, config, clips)
    before, update = copied(stage.model), Update(stage)
    terms = stage.step(batch_of(stage, 2), update)
    assert {"displacement", "visibility", "figure", "reconstruction", "copy"} <= set(terms)
    minimised = sum(value for key, value in terms.items() if key != "copy")
    torch.testing.assert_close(torch.stack(update.losses).mean(), minimised)
    moved = {key for key, value in stage.model.state_dict().items() if not torch.equal(value, before[key])}
    assert {"decoder.mask.logit.weight", "decoder.fields.flow.weight", "decoder.fields.shares.weight"} <= moved


@pytest.mark.parametrize("name", ["autoencoder", "generator_finetuning", "single_step"])
def test_what_is_uncovered_is_blended_of_the_samples_plate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """G that moves the square in the object's frame is right everywhere with a plate, and without it is not."""
    config = changed(TINY_OBJECT, **{f"{name}__steps": 4}, losses__autoencoding=0.0)
    clip = square_clip(by=(4, 3), frames=5, known=True)
    found = {}
    for key in ("with", "without"):
        stage = make_stage(name, config, [clip])
        batch = batch_of(stage, 1)
        still = batch["source" if name == "autoencoder" else "frames"].flatten(0, -4)[0, 0]
        predict_by_hand(monkeypatch, moves((still > 0.5).float()))
        batch = batch if key == "with" else {k: v for k, v in batch.items() if k != "plate"}
        found[key] = stage.step(batch, lambda name, loss, clip_grad=None: None)
    assert found["with"]["reconstruction"] < 0.02 * found["without"]["reconstruction"]


def test_previews_show_the_plate() -> None:
    stage = make_stage("autoencoder", changed(TINY_OBJECT, autoencoder__steps=1), [square_clip(by=(3, 2))])
    plates, generate = [], StrokesNetworks.generate

    def noted(model: StrokesNetworks, context: Context, *rest: Any) -> GeneratorOutput:
        plates.append(context.plate)
        return generate(model, context, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StrokesNetworks, "generate", noted)
        stage.preview()
        rollout_sheet(stage.model, stage.preview_clips)
    assert len(plates) == 1 + 4  # all frames of a clip at once, and one by one
    for plate in plates:
        assert (plate[:, 3] == 1).all()
        assert not (plate[:, 0] > 0.5).any()
