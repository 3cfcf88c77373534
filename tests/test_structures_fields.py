"""Ours beside the paper: displacements of bodies and faces, the network of fields, its stage and its frames."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from stillmotion import geometry, media
from stillmotion.data.augment import find_augmentation, sample_params
from stillmotion.data.clip import Clip
from stillmotion.data.motion_truth import UNKNOWN
from stillmotion.morphable.camera import Pose, project
from stillmotion.morphable.model import shipped_model
from stillmotion.morphable.rendering import surface_displacement
from stillmotion.nn.modes import eval_mode
from stillmotion.rendering.fields import PAINT, STATIC, WARPED
from stillmotion.systems.structures import Poses, Retarget
from stillmotion.systems.structures.animating import Structures
from stillmotion.systems.structures.data import FACE, coarse_displacement, known_of, structure_maps, with_structures
from stillmotion.systems.structures.displacements import limb_displacement, surface_coarse, surface_truth
from stillmotion.systems.structures.fields import FieldForecast
from stillmotion.systems.structures.networks import predict
from stillmotion.systems.structures.refinement import clip_context, refine
from stillmotion.systems.structures.structure_maps import pose_maps
from stillmotion.systems.structures.training import FieldTraining, stages
from stillmotion.worlds import puppets
from structures_tools import TINY, changed, uniform
from structures_training_tools import LEARNING, Update, batch_of, face_clip, square_clip, system_of

FIELDS = changed(
    TINY, forecast__fields=True, refinement__enabled=False, refinement_training__steps=0, pose_prediction__steps=0
)
FACES = changed(FIELDS, size=32, structure__kind="normals", structure__face_model="faces", clip__augmentation="none")
SIDE = 64


def person(**moved: tuple[float, float]) -> Tensor:
    """A person in a picture of 64 pixels; joints by their numbers are moved."""
    places = [
        (32, 8), (40, 16), (24, 16), (44, 26), (20, 26), (46, 36), (18, 36),
        (38, 36), (26, 36), (38, 48), (26, 48), (38, 60), (26, 60),
    ]  # fmt: skip
    pose = torch.tensor([(x, y, 1.0) for x, y in places])
    for name, by in moved.items():
        pose[int(name[1:]), :2] += torch.tensor(by)
    return pose


def pixels(displacement: Tensor) -> Tensor:
    return displacement[..., :2] * (SIDE - 1) / 2


# --- bodies ---------------------------------------------------------------------------------------------------------
def test_a_body_that_moves_as_a_whole_comes_from_where_it_was() -> None:
    still, frame = person(), person(**{f"j{j}": (5.0, -3.0) for j in range(13)})
    found = limb_displacement(still, frame, SIDE)
    assert found.shape == (SIDE, SIDE, 3)
    assert found[..., 2].min() >= 0
    assert found[..., 2].max() <= 1
    for x, y in ((37, 20), (49, 23), (43, 40)):  # on the trunk, an upper arm and a thigh of the frame
        torch.testing.assert_close(pixels(found)[y, x], torch.tensor([-5.0, 3.0]), atol=0.25, rtol=0)
        assert found[y, x, 2] > 0.95
    assert found[60, 2].abs().max() < 1e-3  # nobody is near


def test_a_forearm_turns_and_stretches_with_its_ends() -> None:
    """From hanging down to pointing up, longer: what is halfway along it was halfway along it."""
    still, frame = person(), person(j5=(12.0, -20.0))
    middle = ((frame[3, :2] + frame[5, :2]) / 2).round().long()
    before = (still[3, :2] + still[5, :2]) / 2
    found = pixels(limb_displacement(still, frame, SIDE))
    torch.testing.assert_close(middle + found[middle[1], middle[0]], before, atol=1.2, rtol=0)
    right, below = middle + torch.tensor([2, 2]), before - torch.tensor([2.0, 0.0])
    came = (
        right + found[right[1], right[0]]
    )  # on the lower right of an arm that points up: on the left of one that hangs
    assert (came - below).norm() < 1.5


def test_limbs_that_are_not_seen_in_both_poses_do_not_count() -> None:
    still, frame = person(), person(j5=(12.0, -20.0))
    for pose in (still, frame):
        hidden = pose.clone()
        hidden[5, 2] = 0
        hidden[5, :2] = torch.nan
        pair = (hidden, frame) if pose is still else (still, hidden)
        found = limb_displacement(*pair, SIDE)
        assert found.isfinite().all()
        x, y = 58, 16  # where the wrist is now, far from the rest of the arm
        assert found[y, x, 2] < 0.2 < limb_displacement(still, frame, SIDE)[y, x, 2]
    nobody = torch.zeros(13, 3)
    assert limb_displacement(nobody, nobody, 16).abs().max() == 0


def test_the_motion_of_puppets_is_told_by_their_joints() -> None:
    """Beside copying, the warped still of the joints alone is much nearer to the frame, where the body is."""
    gains = []
    for seed, action in enumerate(("wave2", "jack", "bend")):
        clip = puppets.sample(np.random.default_rng(seed), size=SIDE, frames=16, action=action)
        params = sample_params((SIDE, SIDE), np.random.default_rng(0), find_augmentation("none"))
        config = changed(FIELDS, size=SIDE)
        known = known_of(clip, np.array([0, 9]), params, config, lambda *_: torch.zeros(4, SIDE, SIDE))  # type: ignore
        coarse = coarse_displacement({"poses": known["poses"][None]}, config)[0, 0, ..., :2]
        counts = (known["moving"][0] > 0) & (known["visibility"][0] == WARPED)
        error = (pixels(coarse) - pixels(known["displacement"][0])).norm(dim=-1)[counts].mean()
        gains.append(float(error / pixels(known["displacement"][0]).norm(dim=-1)[counts].mean()))
    assert np.mean(gains) < 0.6


# --- faces ----------------------------------------------------------------------------------------------------------
def test_the_surface_of_a_face_comes_from_where_its_points_were() -> None:
    model = shipped_model("faces")
    shape = model.mean[None].repeat(2, 0)
    pose = Pose(np.array([20.0, 20.0]), np.array([[0, 0, 0], [0, 0.3, 0.0]]), np.array([[30.0, 32.0], [35.0, 31.0]]))
    placed = project(shape, pose)
    found = surface_displacement(placed[0], placed[1:], model.triangles, SIDE)[0]
    assert found.dtype == np.float32
    assert set(np.unique(found[..., 2])) == {0, 1}
    nose = model.landmarks[30]
    x, y = placed[1, nose, :2].round().astype(int)
    moved = placed[0, nose, :2] - placed[1, nose, :2]
    np.testing.assert_allclose(found[y, x, :2], moved, atol=0.7)
    assert not found[found[..., 2] == 0].any()
    still = surface_displacement(placed[1], placed[1:], model.triangles, SIDE)[0]
    assert np.abs(still[..., :2]).max() < 1e-4


def test_what_is_around_a_face_goes_with_it_and_what_is_far_stays() -> None:
    motion = torch.zeros(1, SIDE, SIDE, 3)
    motion[0, 20:40, 20:40] = torch.tensor([6.3, -3.15, 1.0])
    found = surface_coarse(motion)
    torch.testing.assert_close(found[0, 30, 30], torch.tensor([0.2, -0.1, 1.0]))
    beside = found[0, 30, 41]
    assert 0.3 < beside[2] < 1
    torch.testing.assert_close(beside[:2], torch.tensor([0.2, -0.1]) * beside[2], atol=1e-4, rtol=1e-4)
    assert found[0, 5, 60].abs().max() < 1e-3


def test_faces_move_by_their_own_coefficients_after_an_augmentation(tmp_path: Path) -> None:
    """Mirrored and played backwards, the surface's motion still takes the still to the frame."""
    (clip,) = with_structures([face_clip(frames=12)], FACES, tmp_path)
    assert clip.tracks[FACE].shape == (12, 24 + 16 + 7)
    plain = sample_params((32, 32), np.random.default_rng(0), find_augmentation("none"))
    for params in (plain, replace(plain, mirror=True), replace(plain, reverse=True)):
        frames = clip.frames[[0, 11]].astype(np.float32) / 255
        frames = frames[:, :, ::-1].copy() if params.mirror else frames
        still, target = torch.from_numpy(frames[::-1].copy() if params.reverse else frames).permute(0, 3, 1, 2)
        known = known_of(clip, np.array([0, 11]), params, FACES, lambda *_: torch.zeros(4, 32, 32))  # type: ignore
        face = known["motion"][0, ..., 2] > 0
        grid = geometry.identity_grid((32, 32), still) + surface_coarse(known["motion"])[..., :2]
        warped = geometry.warp(still[None], grid)[0]
        assert (warped - target).abs()[:, face].mean() < 0.75 * (still - target).abs()[:, face].mean()


def test_what_a_face_shows_that_its_surface_cannot_bring_needs_paint() -> None:
    """A face of four pixels comes from two to the right; one of them shows teeth. Outside nothing changes."""
    still, motion = torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8, 3)
    still[..., 4, 4:6] = 0.5
    motion[0, 4, 2:6] = torch.tensor([2.0, 0.0, 1.0])
    target = geometry.warp(still, geometry.identity_grid((8, 8), still) + motion[..., :2] * (2 / 7))
    target[..., 4, 3] += 0.2  # teeth
    target[..., 4, 2] += 0.05  # light
    target[..., 0, 0] = 1.0
    known = {
        "displacement": torch.full((1, 8, 8, 2), 0.3),
        "moving": torch.zeros(1, 8, 8),
        "visibility": torch.full((1, 8, 8), UNKNOWN),
    }
    found = surface_truth(motion, still, target, known)
    assert found["visibility"][0, 4, 1:7].tolist() == [UNKNOWN, WARPED, PAINT, WARPED, WARPED, UNKNOWN]
    assert (found["visibility"] != UNKNOWN).sum() == 4
    assert found["moving"].sum() == found["moving"][0, 4, 2:6].sum() == 4
    torch.testing.assert_close(found["displacement"][0, 4, 2], torch.tensor([4 / 7, 0.0]))
    torch.testing.assert_close(found["displacement"][0, 0, 0], torch.tensor([0.3, 0.3]))
    assert known["moving"].sum() == 0


# --- the network ----------------------------------------------------------------------------------------------------
def network(config: Any = FIELDS) -> FieldForecast:
    torch.manual_seed(0)
    return FieldForecast(config)


def test_a_fresh_network_keeps_and_moves_the_still() -> None:
    """No correction and hardly any paint: frames are between the still and the still through the displacement."""
    made, still = network(), uniform(2, 3, 16, 16)
    maps = pose_maps(person()[None].repeat(6, 1, 1) * 0.25, "joints", (16, 16), 0.06)
    coarse = torch.zeros(4, 16, 16, 3)
    coarse[..., 0] = 2 * 2 / 15  # two pixels to the right
    with eval_mode(made), torch.no_grad():
        output = predict(made, still, maps[:2], maps[2:], coarse)
    assert output.frame.shape == (4, 3, 16, 16)
    assert output.fields is not None
    torch.testing.assert_close(output.fields.displacement, coarse[..., :2])
    assert output.warped is not None
    torch.testing.assert_close(output.warped[1, :, :, 3], (still[0, :, :, 5] + 1) / 2)  # two frames of each still
    torch.testing.assert_close(output.warped[2, :, :, 3], (still[1, :, :, 5] + 1) / 2)
    shares = output.fields.shares
    torch.testing.assert_close(shares.sum(1), torch.ones(4, 16, 16))
    assert (shares[:, [WARPED, STATIC]] > 2 * shares[:, [PAINT, PAINT]]).all()
    torch.testing.assert_close(output.mask, 1 - shares[:, STATIC : STATIC + 1])


def test_every_input_changes_the_frame() -> None:
    made = network()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    still, maps = uniform(1, 3, 16, 16), uniform(1, 13, 16, 16, low=0.0)
    coarse, plate = torch.zeros(1, 16, 16, 3), torch.ones(1, 4, 16, 16)
    given = [still, maps, maps, coarse, plate]
    first = predict(made, *given).frame
    for i, other in enumerate((-still, 0.5 * maps, 0.5 * maps, coarse + 0.3, 0.5 * plate)):
        changed_one = [*given[:i], other, *given[i + 1 :]]
        assert (predict(made, *changed_one).frame - first).abs().max() > 1e-4, i


# --- the stage ------------------------------------------------------------------------------------------------------
LEARNS = changed(
    LEARNING, forecast__fields=True, refinement_losses__gan=0.0, refinement_losses__temporal=1.0,
    field_losses__pyramid=10.0, field_losses__paint=1.0, field_losses__figure=1.0,
    forecast_training__learning_rate=1e-2,
)  # fmt: skip


@pytest.mark.parametrize("context", [False, True])
def test_fields_are_learned_and_refined_without_critics(context: bool) -> None:
    config = changed(LEARNS, refinement__content="difference", refinement__context=context)
    made = stages(system_of(config), [square_clip(), square_clip("other", corner=(4, 2))])
    assert isinstance(made[0], FieldTraining)
    terms = made[0].step(batch_of(made[0]), Update(made[0]))
    assert set(terms) == {"pyramid", "paint", "figure"}
    assert made[0].preview()["forecasts"].shape == (2 * 16, 7 * 16, 3)
    assert not {"displacement", "visibility"} & set(made[1].dataset[0])  # slow to make, and not read
    refined = made[1].step(batch_of(made[1]), Update(made[1]))
    assert set(refined) == {"reconstruction", "mask", "temporal", "coarse"}
    assert set(made[1].networks) == {"refinement"}
    assert made[1].preview()["refinement"].ndim == 3


def test_fields_learn_from_feature_similarity_as_well() -> None:
    config = changed(
        LEARNS, features__network="random-vgg16", features__side=16, features__weight=0.5, features__maps="all"
    )
    stage = stages(system_of(config), [square_clip()])[0]
    terms = stage.step(batch_of(stage), update := Update(stage))
    assert float(terms["features"]) > 0
    assert update.calls[0][1] == pytest.approx(sum(map(float, terms.values())), rel=1e-4)


def test_a_moving_square_is_learned() -> None:
    """Line 21, of ours: much nearer than copying after few steps."""
    torch.manual_seed(0)
    clips = [square_clip(str(i), corner=(i, 5 - i), by=(1, i % 2)) for i in range(6)]
    stage = stages(system_of(changed(LEARNS, forecast_training__steps=100)), clips)[0]
    update = Update(stage)
    for step in range(100):
        stage.step(batch_of(stage, step), update)
    batch = default_collate([stage.dataset[i] for i in range(6)])
    maps, still = structure_maps(batch, LEARNS), 2 * batch["source"] - 1
    with eval_mode(stage.model), torch.no_grad():
        coarse = coarse_displacement(batch, LEARNS)[:, 0]
        made = predict(stage.model, still, maps[:, 0], maps[:, 1], coarse, batch["plate"])
    error = ((made.frame + 1) / 2 - batch["driving"]).abs().mean()
    assert error < 0.6 * (batch["source"] - batch["driving"]).abs().mean()


# --- frames ---------------------------------------------------------------------------------------------------------
def figure(frames: int) -> np.ndarray:
    base = person().numpy()[:, :2] * 0.6
    track = np.repeat(base[None], frames, 0)
    track[:, 5, 1] -= np.arange(frames)
    return track


def system(config: Any = FIELDS) -> Structures:
    torch.manual_seed(3)
    return Structures.build(config)


def test_frames_have_the_stills_size_and_its_pixels_where_nobody_moves() -> None:
    still = np.random.default_rng(1).integers(0, 256, (40, 48, 3), np.uint8)
    made = system()
    with torch.no_grad():  # one source for all: the still as it is
        made.networks.forecast.fields.shares.bias[STATIC] = 5.0  # type: ignore[union-attr, index]
    steps = list(made.animate(still, Poses(figure(5))))
    assert len(steps) == 5
    assert all(np.array_equal(step.frame, still) for step in steps)
    assert steps[-1].facts["mask"].max() < 0.01
    with torch.no_grad():
        made.networks.forecast.fields.shares.bias[STATIC] = -5.0  # type: ignore[union-attr, index]
    moved = list(made.animate(still, Poses(figure(5))))
    assert not np.array_equal(moved[-1].frame, still)


def test_a_mask_and_a_plate_are_taken_by_fields_alone(tmp_path: Path) -> None:
    still = np.random.default_rng(1).integers(0, 256, (40, 48, 3), np.uint8)
    mask = np.zeros_like(still)
    mask[8:32, 16:32] = 255
    media.write_picture(tmp_path / "mask.png", mask)
    steps = list(system().animate(still, Poses(figure(3)), mask=tmp_path / "mask.png", layers=True))
    assert {"figure", "plate", "structure", "mask", "content"} <= set(steps[0].layers)


def test_refined_frames_tell_what_they_were_before() -> None:
    """G_R's share is painted over everything: with its mask at one, frames are its content."""
    still = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    made, track = system(LEARNS), figure(6) * (16 / 40)
    with torch.no_grad():
        made.networks.refinement.heads.bias[3:] = -30.0  # type: ignore[union-attr]
    steps = list(made.animate(still, Poses(track), size="model"))
    assert all(np.array_equal(step.frame, step.facts["coarse"]) for step in steps)
    with torch.no_grad():
        made.networks.refinement.heads.bias[3:] = 30.0  # type: ignore[union-attr]
    painted = list(made.animate(still, Poses(track), size="model"))
    assert painted[0].facts["shares"][PAINT].min() == pytest.approx(1)
    assert np.abs(painted[0].frame.astype(int) - 127).max() <= 3  # fresh content is about zero: grey


def test_ours_refines_with_the_still_and_the_sources_of_the_clip() -> None:
    """Frames are those of the video refined at once, of forecasts and their shares."""
    still, track = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8), figure(6) * (16 / 40)
    made = system(changed(LEARNS, refinement__content="difference", refinement__context=True))
    refinement = made.networks.refinement
    assert refinement is not None
    torch.nn.init.normal_(refinement.heads.change.weight, 0, 0.1)  # type: ignore[union-attr, arg-type]
    steps = list(made.animate(still, Poses(track), size="model"))
    coarse, maps, shares = (
        torch.from_numpy(np.stack([step.facts[name] for step in steps])).float()
        for name in ("coarse", "pose", "shares")
    )
    coarse = coarse.movedim(-1, 1)[None] / 127.5 - 1
    maps = pose_maps(maps[None], "joints", (16, 16), LEARNS.structure.sigma)
    small = torch.from_numpy(still).movedim(-1, 0)[None] / 127.5 - 1
    with torch.no_grad():
        refined = refine(refinement, coarse, maps, 4, 1, clip_context(small, shares[None]))[0]
    found = np.stack([step.facts["refined"] for step in steps]).astype(int)
    assert np.abs(found - media.to_pictures((refined + 1) / 2)).max() <= 2
    assert np.abs(found - np.stack([step.facts["coarse"] for step in steps])).mean() > 2


def test_a_difference_is_added_to_what_changes_alone() -> None:
    """Ours: with the mask at one, frames are brighter by the content where they are not the still's own pixels."""
    still = np.full((16, 16, 3), 100, np.uint8)
    made, track = system(changed(LEARNS, refinement__content="difference")), figure(6) * (16 / 40)
    with torch.no_grad():
        made.networks.refinement.heads.bias[3:] = 30.0  # type: ignore[union-attr]
        made.networks.refinement.heads.bias[:3] = 0.2  # type: ignore[union-attr]
        made.networks.forecast.fields.paint.bias[:] = -0.44  # type: ignore[union-attr, index]
    for size in ("model", "native"):
        step = list(made.animate(still, Poses(track), size=size))[2]
        rise = step.frame.astype(int) - step.facts["coarse"]
        assert np.abs(rise - 255 * np.tanh(0.2) / 2).max() < 6
    with torch.no_grad():
        made.networks.forecast.fields.shares.bias[STATIC] = 5.0  # type: ignore[union-attr, index]
    kept = list(made.animate(still, Poses(track)))
    assert all(np.array_equal(step.frame, still) for step in kept)


def test_a_face_is_moved_by_a_video(tmp_path: Path) -> None:
    clip = face_clip(frames=6)
    marks = clip.tracks["landmarks"][..., :2]
    control = Retarget(np.asarray(clip.frames), marks[0], marks, own_neutral=False, head="video", crop="none")
    steps = list(system(FACES).animate(np.asarray(clip.frames[0]), control))
    assert len(steps) == 6
    assert steps[0].frame.shape == (32, 32, 3)


def test_clips_of_one_frame_more_than_a_pair_are_enough() -> None:
    clip = square_clip(frames=2)
    assert isinstance(clip, Clip)
    stage = stages(system_of(LEARNS), [clip, square_clip(frames=8)], only=["forecast"])[0]
    assert len(stage.dataset) == 2


def test_fields_of_faces_learn_from_the_surface(tmp_path: Path) -> None:
    """Clips of the world know no flow of their own: what these losses count comes from the surface."""
    config = changed(
        FACES, field_losses__displacement=1.0, field_losses__visibility=1.0, field_losses__pyramid=1.0,
        forecast_training__batch=1, refinement__enabled=False, refinement_training__steps=0, features__weight=0.0,
    )  # fmt: skip
    (stage,) = stages(system_of(config), [face_clip(frames=8)], only=["forecast"])
    stage.begin(tmp_path)
    terms = stage.step(batch_of(stage), Update(stage))
    assert terms["displacement"] > 0
    assert terms["visibility"] > 0
