"""The world `arm`: the physics, and every track against the pixels."""

import sys
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from stillmotion.worlds.arm import Push, physics, render, run, sample, sample_description
from stillmotion.worlds.arm.objects import KINDS, BinObject, wall_clearance
from stillmotion.worlds.arm.physics import STEPS_PER_SECOND, TOLERANCE, RigidBody, overlaps, simulate
from stillmotion.worlds.arm.robot import Trajectory
from stillmotion.worlds.arm.shapes import HOLLOW, Shape, centred, moments, polyline
from test_worlds import assert_only_mask_changes, warp

HALF = (0.4, 0.4)


@cache
def push(seed: int) -> Push:
    return sample_description(np.random.default_rng([3, seed]))


def without_light(made: Push) -> Push:
    """The same without shadows, noise and blur, so that only bodies change pixels."""
    return replace(made, scene=replace(made.scene, shadow=0.0, noise=0.0, softness=0.0))


def bodies_of(made: Push) -> list[RigidBody]:
    """The objects, then the gripper."""
    return [*(thing.body() for thing in made.objects), made.robot.gripper_body()]


def disc(radius: float, mobility: float = 1.0, rotation_mobility: float = 0.0) -> RigidBody:
    return RigidBody(np.array([[0.0, 0.0, radius]]), mobility, rotation_mobility)


def straight(first: tuple[float, float], last: tuple[float, float], steps: int) -> np.ndarray:
    """Targets on a line for a gripper that does not rotate."""
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


@pytest.mark.parametrize("seed", range(4))
def test_discs_follow_the_outline(seed: int) -> None:
    for thing in push(seed).objects:
        rim = thing.body().discs
        # No disc protrudes, and between two discs at most the stated hollow is missing.
        assert thing.shape.distance(rim[:, 0], rim[:, 1]).max() <= -rim[:, 2].min() + 1e-6
        x0, y0, x1, y1 = thing.shape.bounds()
        x, y = np.meshgrid(np.linspace(x0, x1, 120), np.linspace(y0, y1, 120))
        band = np.abs(thing.shape.distance(x, y) + 0.0005) < 0.0005
        away = np.hypot(x[band][:, None] - rim[:, 0], y[band][:, None] - rim[:, 1]) - rim[:, 2]
        assert away.min(1).max() < HOLLOW + 1e-4


# --- physics -----------------------------------------------------------------------------------------------
def test_a_gripper_that_passes_by_moves_nothing() -> None:
    poses = np.array([[0.0, 0.0, 0.3], [0.2, 0.1, 0.0]])
    targets = straight((-0.3, 0.0701), (0.1, 0.0701), 80)
    objects, grippers = simulate([disc(0.05), disc(0.05)], poses, HALF, disc(0.02, 0.0), targets, 1)
    assert (objects == poses).all()
    assert grippers[-1] == pytest.approx([0.1, 0.0701, 0])


def test_a_disc_pushed_through_its_middle_stays_in_front_of_the_gripper() -> None:
    targets, pushed = straight((-0.3, 0.0), (0.1, 0.0), 80), disc(0.05, rotation_mobility=900.0)
    objects, grippers = simulate([pushed], np.zeros((1, 3)), HALF, disc(0.02, 0.0), targets, 1)
    touched = grippers[:, 0] > -0.07
    assert np.abs(objects[touched, 0, 0] - grippers[touched, 0] - 0.07).max() < TOLERANCE
    assert (objects[~touched] == 0).all()
    assert np.abs(objects[:, 0, 1:]).max() < 1e-9


def test_one_small_push_divides_into_shift_and_rotation_as_the_limit_surface_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(physics, "_FRICTION", 0.0)
    arm, deep, shift, spin = 0.06, 0.004, 2.0, 500.0
    bar = RigidBody(np.array([[-arm, 0.0, 0.01], [arm, 0.0, 0.01]]), shift, spin)
    targets = straight((arm, -0.03), (arm, -0.03 + deep), 2)
    objects, _ = simulate([bar], np.zeros((1, 3)), HALF, disc(0.02, 0.0), targets, 1)
    # The least motion, in the metric of friction, that moves the point at the arm by `deep`: w = shift + spin arm^2.
    weight = shift + spin * arm**2
    assert objects[1, 0, 1] == pytest.approx(deep * shift / weight, rel=0.05)
    assert objects[1, 0, 2] == pytest.approx(deep * spin * arm / weight, rel=0.05)
    assert objects[1, 0, 2] > 0  # pushed down at its right end it rotates from x towards y
    assert objects[1, 0, 1] + arm * np.sin(objects[1, 0, 2]) == pytest.approx(deep, rel=0.02)


def test_friction_drags_along_what_is_touched_sideways(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = straight((-0.066, -0.02), (-0.06, 0.02), 12)
    drift = []
    for friction in (0.0, 0.3):
        monkeypatch.setattr(physics, "_FRICTION", friction)
        objects, _ = simulate([disc(0.05)], np.zeros((1, 3)), HALF, disc(0.02, 0.0), targets, 1)
        drift.append(objects[-1, 0, 1])
    assert drift[1] > drift[0] + 1e-4


def test_a_push_is_passed_on_and_the_arm_stalls_at_the_wall() -> None:
    poses, targets = np.array([[0.1, 0.0, 0.0], [0.22, 0.0, 0.0]]), straight((0.0, 0.0), (0.38, 0.0), 120)
    objects, grippers = simulate([disc(0.05), disc(0.05)], poses, HALF, disc(0.02, 0.0), targets, 0.004)
    assert objects[-1, :, 0] == pytest.approx([0.25, 0.35], abs=2 * TOLERANCE)
    assert grippers[-1, 0] == pytest.approx(0.18, abs=0.004 + TOLERANCE)  # within a step of the last free place


@pytest.mark.parametrize("seed", range(8))
def test_objects_stay_in_the_bin_and_out_of_each_other(seed: int) -> None:
    made = push(seed)
    objects, grippers = run(made, 26)
    bodies = bodies_of(made)
    for poses, gripper in zip(objects[::5], grippers[::5], strict=True):
        deep = overlaps(bodies, np.concatenate([poses, gripper[None]]))
        assert deep.max() <= TOLERANCE + 1e-9
        for body, pose in zip(bodies, poses, strict=False):
            assert wall_clearance(body, pose, made.scene.half) >= -TOLERANCE - 1e-9


def test_only_the_gripper_and_what_it_pushes_move_objects() -> None:
    moves = 0
    for seed in range(8):
        made = push(seed)
        bodies = bodies_of(made)
        gripper = len(bodies) - 1
        objects, grippers = run(made, 2 * STEPS_PER_SECOND, fps=STEPS_PER_SECOND)  # every step of the physics
        for t in np.flatnonzero((np.diff(objects, axis=0) != 0).any((1, 2)))[::5] + 1:
            moved = set(np.flatnonzero((objects[t] != objects[t - 1]).any(-1)).tolist())
            deep = overlaps(bodies, np.concatenate([objects[t], grippers[t][None]]))
            reached = {gripper}
            for _ in bodies:
                reached |= {j for i in reached for j in range(gripper) if deep[i, j] > -3 * TOLERANCE}
            assert moved <= reached
            moves += len(moved)
    assert moves > 30


@pytest.mark.parametrize("seed", range(3))
def test_the_physics_does_not_depend_on_the_frame_rate(seed: int) -> None:
    slow = run(push(seed), 9, fps=10)
    for fps in (20, 30, 60):
        fast = run(push(seed), 8 * fps // 10 + 1, fps=fps)
        assert np.array_equal(fast[0][:: fps // 10], slow[0])
        assert np.array_equal(fast[1][:: fps // 10], slow[1])


def test_four_times_finer_steps_change_little() -> None:
    errors = []
    for seed in range(12):
        coarse, fine = run(push(seed), 17)[0], run(push(seed), 17, steps=4 * STEPS_PER_SECOND // 10)[0]
        errors.append(np.linalg.norm(coarse[-1, :, :2] - fine[-1, :, :2], axis=-1).max())
    # As docs/worlds.md says, in picture heights, for the object that differs most after 1.6 seconds.
    assert np.median(errors) < 0.004
    assert np.quantile(errors, 0.8) < 0.02


def test_most_clips_show_a_push() -> None:
    pushed = [np.linalg.norm(np.ptp(run(push(seed), 16)[0][..., :2], axis=0), axis=-1).max() for seed in range(16)]
    assert np.mean(np.array(pushed) > 0.02) > 0.6


# --- the arm -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(10))
def test_links_keep_their_length_and_the_gripper_follows_its_trajectory(seed: int) -> None:
    made = push(seed)
    tips = np.random.default_rng(seed).uniform(-1, 1, (50, 2)) * made.scene.half
    shoulder, elbow, wrist = np.moveaxis(made.robot.joints(made.robot.gripper_poses(tips)), 1, 0)
    assert np.linalg.norm(elbow - shoulder, axis=1) == pytest.approx(made.robot.upper)
    assert np.linalg.norm(wrist - elbow, axis=1) == pytest.approx(made.robot.fore)
    assert np.linalg.norm(wrist - tips, axis=1) == pytest.approx(0.13)
    _, grippers = run(replace(made, objects=()), 20)
    assert grippers[:, :2] == pytest.approx(made.trajectory.at(np.arange(20) / 10), abs=1e-6)


def test_the_trajectory_goes_from_waypoint_to_waypoint_without_jumps() -> None:
    trajectory = Trajectory(((0.0, 0.0), (0.2, 0.0), (0.2, 0.1)), (1.0, 0.5, 2.0))
    assert trajectory.at(np.array([0.0, 0.5, 1.0, 1.5, 3.5])) == pytest.approx(
        np.array([[0, 0], [0.1, 0], [0.2, 0], [0.2, 0.1], [0, 0]]), abs=1e-12
    )
    steps = np.linalg.norm(np.diff(trajectory.at(np.arange(0, 7, 1 / STEPS_PER_SECOND)), axis=0), axis=1)
    assert steps.max() <= trajectory.stride() * 1.001
    assert steps.max() > trajectory.stride() * 0.98


# --- pixels ------------------------------------------------------------------------------------------------
def test_meta_describes_the_robot() -> None:
    assert sample(np.random.default_rng(1), size=40, frames=1).meta["description"]["robot"]["upper"] > 0


def test_all_kinds_of_objects_appear() -> None:
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


def set_scene(colour: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the empty scene by one grey level."""
    module = sys.modules["stillmotion.worlds.arm.render"]
    monkeypatch.setattr(module, "paint_scene", lambda _, size: np.full((size, size, 3), colour, np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_the_mask_is_where_the_scene_is_hidden(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = without_light(push(seed))
    set_scene(0.0, monkeypatch)
    dark, tracks = render(made, 64, 3)
    set_scene(1.0, monkeypatch)
    light, _ = render(made, 64, 3)
    # The difference between a black and a white scene is the visible share of the scene.
    seen = (light.astype(int) - dark).max(-1) / 255
    mask = tracks["mask"] == 255
    assert seen[mask].max() < 0.75
    assert seen[~mask].min() > 0.25
    assert seen[mask].mean() < 0.1  # half-covered edges are many at 64 pixels
    assert seen[~mask].mean() > 0.97


@pytest.mark.parametrize("seed", range(4))
def test_poses_are_those_of_the_pixels(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single bar, far from an arm that stays in a corner: its pixels' centroid and long axis are its pose."""
    set_scene(0.0, monkeypatch)
    bar = centred(Shape(((0.0, 0.0, 0.16, 0.0, 0.015, 0.03),)))
    made = without_light(push(seed))
    robot = replace(made.robot, base=(0.9, 0.0))
    angle = float(np.random.default_rng(seed).uniform(-1.2, 1.2))
    thing = BinObject("brush", bar, "plain", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.01, 1.0, (-0.2, 0.1, angle), 0)
    still = Trajectory(((0.3, -0.3), (0.3, -0.3)), (5.0, 5.0))
    # Without a push the pose is that of the description, in pixels.
    _, tracks = render(replace(made, robot=robot, trajectory=still, objects=(thing,)), 128, 2)
    x, y, turned = tracks["poses"][1, 0]
    assert turned == pytest.approx(angle + made.scene.tilt)
    near = (np.hypot(*np.mgrid[-y : 127.5 - y, -x : 127.5 - x]) < 24) & (tracks["mask"][1] == 255)
    rows, columns = np.nonzero(near)
    assert np.array([columns.mean(), rows.mean()]) == pytest.approx([x, y], abs=0.3)
    axis = np.linalg.eigh(np.cov(np.stack([columns, rows])))[1][:, -1]
    assert abs(axis @ [np.cos(turned), np.sin(turned)]) > 0.998
    ahead = (columns - x) * np.cos(turned) + (rows - y) * np.sin(turned)
    assert (ahead**3).mean() < 0  # the thin end, at the bar's start, reaches further from the centre of mass


@pytest.mark.parametrize("seed", range(5))
def test_gripper_and_box_are_those_of_the_pixels(seed: int) -> None:
    made = push(seed)
    _, tracks = render(made, 96, 4)
    _, grippers = run(made, 4)
    y, x = np.mgrid[:96, :96].astype(float)
    inverse = np.linalg.inv(made.scene.to_pixels(96)[:, :2])
    for t in range(4):
        u, v = np.moveaxis((np.stack([x, y], -1) - tracks["gripper"][t]) @ inverse.T, -1, 0)
        c, s = np.cos(grippers[t, 2]), np.sin(grippers[t, 2])
        on = made.robot.gripper().distance(c * u + s * v, c * v - s * u) < -0.003
        rows, columns = np.nonzero(on)
        found = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
        assert np.abs(tracks["box"][t] - found).max() < 1.8
        assert (tracks["mask"][t][on] == 255).all()
    assert tracks["points"] == pytest.approx(0.5 * (tracks["box"][:, :2] + tracks["box"][:, 2:]))


def is_uniform(flow: np.ndarray) -> np.ndarray:
    """Where a pixel and its neighbours move alike: not at the edge of a body."""
    kernel = np.ones((5, 5))
    return np.max([cv2.dilate(f, kernel) - cv2.erode(f, kernel) for f in np.moveaxis(flow, -1, 0)], 0) < 0.3


def flows(tracks: dict[str, np.ndarray], t: int) -> tuple[np.ndarray, np.ndarray]:
    forward, backward = (tracks[name][t].astype(np.float32) for name in ("flow_forward", "flow_backward"))
    return forward, backward


def test_flow_reproduces_the_neighbouring_frame_outside_occlusions() -> None:
    errors, still, checked = [], [], 0
    for seed in range(8):
        video, tracks = render(without_light(push(seed)), 96, 10)
        for t in range(0, 9, 2):
            forward, backward = flows(tracks, t)
            for here, there, flow, other in ((t, t + 1, forward, backward), (t + 1, t, backward, forward)):
                # Seen in both frames: the flow there and back ends where it began.
                again = np.abs(flow + warp(other, flow)).max(-1) < 0.3
                inside = (warp(np.ones((96, 96)), flow) > 0.99) & is_uniform(flow) & (np.abs(flow).max(-1) > 0.3)
                inside &= again
                frame = video[here].astype(float)
                errors.append(np.abs(warp(video[there], flow) - frame)[inside].ravel())
                still.append(np.abs(video[there] - frame)[inside].ravel())
                checked += int(inside.sum())
    assert checked > 8000
    assert np.concatenate(errors).mean() < 3.5  # grey levels: seams, rings and pads sampled twice
    assert np.concatenate(still).mean() > 2.5 * np.concatenate(errors).mean()


@pytest.mark.parametrize("seed", range(3))
def test_what_does_not_move_keeps_its_pixels(seed: int) -> None:
    video, tracks = render(without_light(push(seed)), 64, 6)
    moving = (tracks["flow_forward"] != 0).any((0, 3)) | (tracks["flow_backward"] != 0).any((0, 3))
    assert_only_mask_changes(video, moving, by=2)


def test_no_other_shift_fits_better_than_the_flow() -> None:
    """Without a threshold: the remaining error is resampling, because a tenth of a pixel more is worse."""
    shifts = [(0.0, 0.0), (0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)]
    costs = np.zeros(len(shifts))
    for seed in range(6):
        video, tracks = render(without_light(push(seed)), 64, 8)
        for t in range(7):
            forward, backward = flows(tracks, t)
            body = cv2.erode(tracks["mask"][t], np.ones((3, 3))) > 0
            there = warp(cv2.erode(tracks["mask"][t + 1], np.ones((3, 3))) / 255, forward) > 0.99
            again = np.abs(forward + warp(backward, forward)).max(-1) < 0.3
            inner = body & there & again & is_uniform(forward) & (np.abs(forward).max(-1) > 0.1)
            for k, shift in enumerate(shifts):
                found = warp(video[t + 1], forward + np.array(shift, np.float32), cv2.INTER_CUBIC)
                costs[k] += ((found - video[t]) ** 2)[inner].sum()
    assert costs[0] > 0
    assert (costs[1:] > 1.04 * costs[0]).all()
