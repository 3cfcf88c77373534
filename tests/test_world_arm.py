"""The world `arm`: the physics keeps its promises, and every track tells the truth about its pixels."""

import json
import sys
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from stillmotion.errors import StillmotionError
from stillmotion.worlds import sample_clip
from stillmotion.worlds.arm import Push, physics, render, run, sample, sample_description
from stillmotion.worlds.arm.objects import KINDS, BinObject, wall_clearance
from stillmotion.worlds.arm.physics import STEPS_PER_SECOND, TOLERANCE, RigidBody, overlaps, simulate
from stillmotion.worlds.arm.robot import Trajectory
from stillmotion.worlds.arm.shapes import HOLLOW, Shape, centred, moments, polyline

HALF = (0.4, 0.4)


@cache
def push(seed: int) -> Push:
    return sample_description(np.random.default_rng([3, seed]))


def quiet(made: Push) -> Push:
    """The same without shadows and before a perfect lens, so that only bodies change pixels."""
    return replace(made, scene=replace(made.scene, shadow=0.0, noise=0.0, softness=0.0))


def disc(radius: float, give: float = 1.0, turn: float = 0.0) -> RigidBody:
    return RigidBody(np.array([[0.0, 0.0, radius]]), give, turn)


def way(first: tuple[float, float], last: tuple[float, float], steps: int) -> np.ndarray:
    """A straight plan for a hand that does not turn."""
    share = np.linspace(0, 1, steps)[:, None]
    return np.concatenate([np.array(first) + share * (np.array(last) - np.array(first)), np.zeros((steps, 1))], 1)


# --- shapes ------------------------------------------------------------------------------------------------


def test_distances_areas_and_centres_are_those_of_the_textbook() -> None:
    square = polyline([(0, 0), (0.1, 0), (0.1, 0.1), (0, 0.1)], 0.02, filled=True)
    x, y = np.array([0.05, 0.05, 0.2, -0.05, 0.01]), np.array([0.05, -0.03, 0.05, -0.05, 0.05])
    expected = [-0.07, 0.01, 0.08, np.hypot(0.05, 0.05) - 0.02, -0.03]
    assert square.distance(x, y) == pytest.approx(expected)
    area, middle_x, middle_y, spread = moments(polyline([(0.3, 0.2), (0.3, 0.2)], 0.05))
    assert area == pytest.approx(np.pi * 0.05**2, rel=0.01)
    assert (middle_x, middle_y) == pytest.approx((0.3, 0.2), abs=1e-4)
    assert spread == pytest.approx(2 / 3 * 0.05, rel=0.01)  # mean distance from a disc's centre


def test_discs_follow_the_outline() -> None:
    for made in (push(seed) for seed in range(4)):
        for thing in made.objects:
            rim = thing.body().discs
            # Nothing sticks out, and between two discs at most the stated hollow is missing.
            assert thing.shape.distance(rim[:, 0], rim[:, 1]).max() <= -rim[:, 2].min() + 1e-6
            x0, y0, x1, y1 = thing.shape.bounds()
            x, y = np.meshgrid(np.linspace(x0, x1, 120), np.linspace(y0, y1, 120))
            band = np.abs(thing.shape.distance(x, y) + 0.0005) < 0.0005
            away = np.hypot(x[band][:, None] - rim[:, 0], y[band][:, None] - rim[:, 1]) - rim[:, 2]
            assert away.min(1).max() < HOLLOW + 1e-4


# --- physics -----------------------------------------------------------------------------------------------


def test_a_hand_that_passes_by_moves_nothing() -> None:
    poses = np.array([[0.0, 0.0, 0.3], [0.2, 0.1, 0.0]])
    things, hands = simulate(
        [disc(0.05), disc(0.05)], poses, HALF, disc(0.02, 0.0), way((-0.3, 0.0701), (0.1, 0.0701), 80), 1
    )
    assert (things == poses).all()
    assert hands[-1] == pytest.approx([0.1, 0.0701, 0])


def test_a_disc_pushed_through_its_middle_stays_in_front_of_the_hand() -> None:
    plan = way((-0.3, 0.0), (0.1, 0.0), 80)
    things, hands = simulate([disc(0.05, turn=900.0)], np.zeros((1, 3)), HALF, disc(0.02, 0.0), plan, 1)
    touched = hands[:, 0] > -0.07
    assert np.abs(things[touched, 0, 0] - hands[touched, 0] - 0.07).max() < TOLERANCE
    assert (things[~touched] == 0).all()
    assert np.abs(things[:, 0, 1:]).max() < 1e-9


def test_one_small_push_divides_into_shift_and_turn_as_the_limit_surface_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(physics, "_FRICTION", 0.0)
    arm, deep, give, turn = 0.06, 0.004, 2.0, 500.0
    bar = RigidBody(np.array([[-arm, 0.0, 0.01], [arm, 0.0, 0.01]]), give, turn)
    plan = way((arm, -0.03), (arm, -0.03 + deep), 2)
    things, _ = simulate([bar], np.zeros((1, 3)), HALF, disc(0.02, 0.0), plan, 1)
    # The least motion, counted in friction, that moves the point at the arm by `deep`: w = give + turn arm^2.
    weight = give + turn * arm**2
    assert things[1, 0, 1] == pytest.approx(deep * give / weight, rel=0.05)
    assert things[1, 0, 2] == pytest.approx(deep * turn * arm / weight, rel=0.05)
    assert things[1, 0, 2] > 0  # pushed down at its right end it turns from x towards y
    assert things[1, 0, 1] + arm * np.sin(things[1, 0, 2]) == pytest.approx(deep, rel=0.02)


def test_friction_drags_along_what_is_touched_sideways(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = way((-0.066, -0.02), (-0.06, 0.02), 12)
    drift = []
    for friction in (0.0, 0.3):
        monkeypatch.setattr(physics, "_FRICTION", friction)
        things, _ = simulate([disc(0.05)], np.zeros((1, 3)), HALF, disc(0.02, 0.0), plan, 1)
        drift.append(things[-1, 0, 1] - 0.0)
    assert drift[1] > drift[0] + 1e-4


def test_a_push_is_passed_on_and_the_arm_stalls_at_the_wall() -> None:
    poses, plan = np.array([[0.1, 0.0, 0.0], [0.22, 0.0, 0.0]]), way((0.0, 0.0), (0.38, 0.0), 120)
    things, hands = simulate([disc(0.05), disc(0.05)], poses, HALF, disc(0.02, 0.0), plan, 0.004)
    assert things[-1, :, 0] == pytest.approx([0.25, 0.35], abs=2 * TOLERANCE)
    assert hands[-1, 0] == pytest.approx(0.18, abs=0.004 + TOLERANCE)  # within a step of the last place that fits


@pytest.mark.parametrize("seed", range(8))
def test_things_stay_in_the_bin_and_out_of_each_other(seed: int) -> None:
    made = push(seed)
    things, hands = run(made, 26)
    bodies = [*(thing.body() for thing in made.objects), made.robot.gripper_body()]
    for poses, hand in zip(things[::5], hands[::5], strict=True):
        deep = overlaps(bodies, np.concatenate([poses, hand[None]]))
        assert deep.max() <= TOLERANCE + 1e-9
        for body, pose in zip(bodies, poses, strict=False):
            assert wall_clearance(body, pose, made.scene.half) >= -TOLERANCE - 1e-9


def test_nothing_moves_unless_the_hand_pushes_it_or_something_that_it_pushes() -> None:
    moves = 0
    for seed in range(8):
        made = push(seed)
        bodies = [*(thing.body() for thing in made.objects), made.robot.gripper_body()]
        things, hands = run(made, 2 * STEPS_PER_SECOND, fps=STEPS_PER_SECOND)  # every step of the physics
        for t in np.flatnonzero((np.diff(things, axis=0) != 0).any((1, 2)))[::5] + 1:
            moved = set(np.flatnonzero((things[t] != things[t - 1]).any(-1)).tolist())
            deep = overlaps(bodies, np.concatenate([things[t], hands[t][None]]))
            reached, hand = {len(bodies) - 1}, len(bodies) - 1
            for _ in bodies:
                reached |= {j for i in reached for j in range(hand) if deep[i, j] > -3 * TOLERANCE}
            assert moved <= reached
            moves += len(moved)
    assert moves > 30


def test_the_physics_does_not_know_the_frame_rate() -> None:
    for seed in range(3):
        made = push(seed)
        slow = run(made, 9, fps=10)
        for fps in (20, 30, 60):
            fast = run(made, 8 * fps // 10 + 1, fps=fps)
            assert np.array_equal(fast[0][:: fps // 10], slow[0])
            assert np.array_equal(fast[1][:: fps // 10], slow[1])


def test_four_times_finer_steps_change_little() -> None:
    errors = []
    for seed in range(12):
        made = push(seed)
        coarse, fine = run(made, 17)[0], run(made, 17, steps=4 * STEPS_PER_SECOND // 10)[0]
        errors.append(np.linalg.norm(coarse[-1, :, :2] - fine[-1, :, :2], axis=-1).max())
    # As docs/worlds.md says, in picture heights, for the thing that differs most after 1.6 seconds.
    assert np.median(errors) < 0.004
    assert np.quantile(errors, 0.8) < 0.02


def test_most_clips_show_a_push() -> None:
    pushed = [np.linalg.norm(np.ptp(run(push(seed), 16)[0][..., :2], axis=0), axis=-1).max() for seed in range(16)]
    assert np.mean(np.array(pushed) > 0.02) > 0.6


# --- the arm -----------------------------------------------------------------------------------------------


def test_links_keep_their_length_and_the_hand_follows_the_plan() -> None:
    for seed in range(10):
        made = push(seed)
        tips = np.random.default_rng(seed).uniform(-1, 1, (50, 2)) * made.scene.half
        hands = made.robot.gripper_poses(tips)
        shoulder, elbow, wrist = np.moveaxis(made.robot.joints(hands), 1, 0)
        assert np.linalg.norm(elbow - shoulder, axis=1) == pytest.approx(made.robot.upper)
        assert np.linalg.norm(wrist - elbow, axis=1) == pytest.approx(made.robot.fore)
        assert np.linalg.norm(wrist - tips, axis=1) == pytest.approx(0.13)
        alone = replace(made, objects=())
        _, hands = run(alone, 20)
        assert hands[:, :2] == pytest.approx(alone.trajectory.at(np.arange(20) / 10), abs=1e-6)


def test_the_plan_goes_from_stop_to_stop_without_jumps() -> None:
    plan = Trajectory(((0.0, 0.0), (0.2, 0.0), (0.2, 0.1)), (1.0, 0.5, 2.0))
    assert plan.at(np.array([0.0, 0.5, 1.0, 1.5, 3.5])) == pytest.approx(
        np.array([[0, 0], [0.1, 0], [0.2, 0], [0.2, 0.1], [0, 0]]), abs=1e-12
    )
    steps = np.linalg.norm(np.diff(plan.at(np.arange(0, 7, 1 / STEPS_PER_SECOND)), axis=0), axis=1)
    assert steps.max() <= plan.stride() * 1.001
    assert steps.max() > plan.stride() * 0.98


# --- pixels ------------------------------------------------------------------------------------------------


def test_same_seed_same_bytes_and_a_longer_clip_begins_with_the_shorter() -> None:
    first, again, long = (sample_clip("arm", 3, 5, 32, frames) for frames in (5, 5, 8))
    assert first.frames.tobytes() == again.frames.tobytes()
    assert np.array_equal(first.frames, long.frames[:5])
    assert not np.array_equal(first.frames, sample_clip("arm", 3, 6, 32, 5).frames)
    for track in first.tracks:
        assert first.tracks[track].tobytes() == again.tracks[track].tobytes()


def test_shapes_and_meta() -> None:
    clip = sample(np.random.default_rng(1), size=40, frames=5)
    count = len(clip.meta["things"])
    shapes = {name: (track.shape, track.dtype) for name, track in clip.tracks.items()}
    assert shapes == {
        "gripper": ((5, 2), np.float32), "box": ((5, 4), np.float32), "points": ((5, 2), np.float32),
        "poses": ((5, count, 3), np.float32), "mask": ((5, 40, 40), np.uint8),
        "flow_forward": ((4, 40, 40, 2), np.float16), "flow_backward": ((4, 40, 40, 2), np.float16),
    }  # fmt: skip
    assert json.loads(json.dumps(clip.meta))["description"]["robot"]["upper"] > 0
    assert sample(np.random.default_rng(1), size=40, frames=1).tracks["flow_forward"].shape == (0, 40, 40, 2)


def test_all_kinds_of_things_appear() -> None:
    counts = [len(push(seed).objects) for seed in range(30)]
    assert {thing.kind for seed in range(30) for thing in push(seed).objects} == set(KINDS)
    assert min(counts) >= 2
    assert max(counts) >= 7


def test_positions_scale_with_the_picture() -> None:
    small, large = render(push(1), 32, 3)[1], render(push(1), 128, 3)[1]
    for track in ("gripper", "box", "points"):
        assert large[track] == pytest.approx((small[track] + 0.5) * 4 - 0.5, abs=1e-3)
    assert large["poses"][..., :2] == pytest.approx((small["poses"][..., :2] + 0.5) * 4 - 0.5, abs=1e-3)
    assert np.array_equal(large["poses"][..., 2], small["poses"][..., 2])


def scene_of(colour: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["stillmotion.worlds.arm.render"]
    monkeypatch.setattr(module, "paint_scene", lambda _, size: np.full((size, size, 3), colour, np.float32))


def test_the_mask_is_where_the_scene_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        made = quiet(push(seed))
        scene_of(0.0, monkeypatch)
        dark, tracks = render(made, 64, 3)
        scene_of(1.0, monkeypatch)
        light, _ = render(made, 64, 3)
        # The same picture before black and before white differs by what is seen of the scene.
        seen = (light.astype(int) - dark).max(-1) / 255
        mask = tracks["mask"] == 255
        assert seen[mask].max() < 0.75
        assert seen[~mask].min() > 0.25
        assert seen[mask].mean() < 0.1  # half-covered edges are many at 64 pixels
        assert seen[~mask].mean() > 0.97


def test_poses_are_where_the_things_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lone bar, far from an arm that stays in a corner: its pixels' middle and long axis are its pose."""
    scene_of(0.0, monkeypatch)
    bar = centred(Shape(((0.0, 0.0, 0.16, 0.0, 0.015, 0.03),)))
    for seed in range(4):
        made = quiet(push(seed))
        robot = replace(made.robot, base=(0.9, 0.0))
        angle = float(np.random.default_rng(seed).uniform(-1.2, 1.2))
        thing = BinObject("brush", bar, "plain", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.01, 1.0, (-0.2, 0.1, angle), 0)
        plan = Trajectory(((0.3, -0.3), (0.3, -0.3)), (5.0, 5.0))
        # A thing moves only if it is pushed, so the pose is that of the description, in pixels.
        _, tracks = render(replace(made, robot=robot, trajectory=plan, objects=(thing,)), 128, 2)
        x, y, turned = tracks["poses"][1, 0]
        assert turned == pytest.approx(angle + made.scene.tilt)
        near = (np.hypot(*np.mgrid[-y : 127.5 - y, -x : 127.5 - x]) < 24) & (tracks["mask"][1] == 255)
        rows, columns = np.nonzero(near)
        assert np.array([columns.mean(), rows.mean()]) == pytest.approx([x, y], abs=0.3)
        spread = np.cov(np.stack([columns, rows]))
        axis = np.linalg.eigh(spread)[1][:, -1]
        assert abs(axis @ [np.cos(turned), np.sin(turned)]) > 0.998
        ahead = (columns - x) * np.cos(turned) + (rows - y) * np.sin(turned)
        assert (ahead**3).mean() < 0  # the thin end, at the bar's start, reaches further from the centre of mass


def test_gripper_and_box_belong_to_the_hand() -> None:
    for seed in range(5):
        made = push(seed)
        _, tracks = render(made, 96, 4)
        _, hands = run(made, 4)
        to_pixels = made.scene.to_pixels(96)
        y, x = np.mgrid[:96, :96].astype(float)
        back = np.linalg.inv(to_pixels[:, :2])
        for t in range(4):
            u, v = np.moveaxis((np.stack([x, y], -1) - tracks["gripper"][t]) @ back.T, -1, 0)
            c, s = np.cos(hands[t, 2]), np.sin(hands[t, 2])
            on = made.robot.gripper().distance(c * u + s * v, c * v - s * u) < -0.003
            rows, columns = np.nonzero(on)
            found = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
            assert np.abs(tracks["box"][t] - found).max() < 1.8
            assert (tracks["mask"][t][on] == 255).all()
        assert tracks["points"] == pytest.approx(0.5 * (tracks["box"][:, :2] + tracks["box"][:, 2:]))


def fetch(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Fetch every pixel of a picture from where the flow leads."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    return cv2.remap(picture.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)


def whole(flow: np.ndarray) -> np.ndarray:
    """Where a pixel and its neighbours move alike: not at the edge of a body."""
    return (
        np.max([cv2.dilate(f, np.ones((5, 5))) - cv2.erode(f, np.ones((5, 5))) for f in np.moveaxis(flow, -1, 0)], 0)
        < 0.3
    )


def test_flow_reproduces_the_neighbouring_frame_outside_occlusions() -> None:
    errors, still, checked = [], [], 0
    for seed in range(8):
        video, tracks = render(quiet(push(seed)), 96, 10)
        for t in range(0, 9, 2):
            forward, backward = (tracks[name][t].astype(np.float32) for name in ("flow_forward", "flow_backward"))
            for here, there, flow, other in ((t, t + 1, forward, backward), (t + 1, t, backward, forward)):
                # Seen in both frames: the way there and back ends where it began.
                again = np.abs(flow + fetch(other, flow)).max(-1) < 0.3
                inside_ = (fetch(np.ones((96, 96)), flow) > 0.99) & whole(flow) & (np.abs(flow).max(-1) > 0.3) & again
                frame = video[here].astype(float)
                errors.append(np.abs(fetch(video[there], flow) - frame)[inside_].ravel())
                still.append(np.abs(video[there] - frame)[inside_].ravel())
                checked += int(inside_.sum())
    assert checked > 8000
    assert np.concatenate(errors).mean() < 3.5  # grey levels: seams, rings and pads sampled twice
    assert np.concatenate(still).mean() > 2.5 * np.concatenate(errors).mean()


def test_what_does_not_move_keeps_its_pixels() -> None:
    for seed in range(3):
        video, tracks = render(quiet(push(seed)), 64, 6)
        moving = (tracks["flow_forward"] != 0).any((0, 3)) | (tracks["flow_backward"] != 0).any((0, 3))
        near = cv2.dilate(moving.astype(np.uint8), np.ones((5, 5))) > 0
        changed = (np.ptp(video.astype(int), axis=0) > 0).any(-1)
        assert changed.any()
        assert not (changed & ~near).any()


def test_bad_arguments_are_explained() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(StillmotionError, match="no action 'walk'"):
        sample(rng, action="walk")
    for size in (0, 15, 5000):
        with pytest.raises(StillmotionError, match="size"):
            sample(rng, size=size)
    with pytest.raises(StillmotionError, match="at least 1 frame"):
        sample(rng, frames=0)
    with pytest.raises(StillmotionError, match="reads no file"):
        sample_clip("arm", 0, 0, 32, 2, source="digits.gz")


def test_no_other_shift_fits_better_than_the_flow() -> None:
    """Truth against pixels without a threshold: what is left is resampling, for a tenth of a pixel more is worse."""
    shifts = [(0.0, 0.0), (0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)]
    costs = np.zeros(len(shifts))
    y, x = np.mgrid[:64, :64].astype(np.float32)
    for seed in range(6):
        video, tracks = render(quiet(push(seed)), 64, 8)
        for t in range(7):
            forward, backward = (tracks[name][t].astype(np.float32) for name in ("flow_forward", "flow_backward"))
            body = cv2.erode(tracks["mask"][t], np.ones((3, 3))) > 0
            there = fetch(cv2.erode(tracks["mask"][t + 1], np.ones((3, 3))) / 255, forward) > 0.99
            again = np.abs(forward + fetch(backward, forward)).max(-1) < 0.3
            inner = body & there & again & whole(forward) & (np.abs(forward).max(-1) > 0.1)
            for k, (dx, dy) in enumerate(shifts):
                at = x + forward[..., 0] + np.float32(dx), y + forward[..., 1] + np.float32(dy)
                found = cv2.remap(video[t + 1].astype(np.float32), *at, cv2.INTER_CUBIC)
                costs[k] += ((found - video[t]) ** 2)[inner].sum()
    assert costs[0] > 0
    assert (costs[1:] > 1.04 * costs[0]).all()
