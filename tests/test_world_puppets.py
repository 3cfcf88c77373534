"""The world `puppets`: every track against the pixels; the motions are in `test_world_puppets_motion.py`."""

from dataclasses import replace

import numpy as np
import pytest

from refusals import refuses
from stillmotion.worlds import puppets, sample_clip
from stillmotion.worlds.puppets import ACTIONS, JOINTS, Puppet, render
from stillmotion.worlds.puppets.render import place_puppet
from stillmotion.worlds.puppets.skeleton import joints
from stillmotion.worlds.textures import Surface
from test_worlds import assert_only_mask_changes, warp

J = {name: i for i, name in enumerate(JOINTS)}
GAITS = ("walk", "jog", "run")
SEEDS = range(4)


def puppet(seed: int, action: str) -> Puppet:
    return puppets.sample_description(np.random.default_rng([7, seed]), action)


def with_scene(made: Puppet, **changes: object) -> Puppet:
    return replace(made, scene=replace(made.scene, **changes))


def without_camera(made: Puppet) -> Puppet:
    """The same puppet with a static camera, without blur and noise, so that only the person changes pixels."""
    camera = replace(made.scene.camera, shake=0.0, follow=False)
    return with_scene(made, camera=camera, noise=0.0, flicker=0.0, softness=0.0, shutter=0.0, shadow=0.0)


def moving_joints(made: Puppet, times: np.ndarray) -> np.ndarray:
    """T x 13 x 2, in statures, relative to the body's origin."""
    return joints(place_puppet(made, times).figure)


def test_penn_actions_order_of_joints() -> None:
    assert JOINTS == (
        "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    )  # fmt: skip


def test_meta_describes_scene_and_gait() -> None:
    assert sample_clip("puppets", 1, 0, 16, 1).meta["description"]["scene"]["stature"] > 0
    assert "gait" not in sample_clip("puppets", 0, 0, 16, 1, "squat").meta


@pytest.mark.parametrize(("seed", "action"), [(0, "walk"), (1, "run"), (2, "bend"), (3, "throw")])
def test_a_longer_clip_begins_with_the_shorter_one(seed: int, action: str) -> None:
    made = puppet(seed, action)
    short, long = render(made, 32, 2), render(made, 32, 9)
    assert np.array_equal(short[0], long[0][:2])
    assert np.array_equal(short[1]["flow_forward"], long[1]["flow_forward"][:1])


# --- joints, mask and box -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bend", [-1.2, 1.2])
def test_bent_arms_are_drawn_along_their_bones(bend: float) -> None:
    """Arms held away from the body are at their joints for either direction of the elbow."""
    made = with_scene(without_camera(puppet(1, "wave2")), stature=0.65, floor=0.93, x=0.5)
    motion = replace(made.motion, low=1.5, high=1.6, bend_low=bend, bend_high=bend, style="forearm")
    tracks = render(replace(made, motion=motion), 96, 3)[1]
    for side in ("left", "right"):
        arm = [tracks["joints"][:, J[f"{side}_{name}"], :2] for name in ("shoulder", "elbow", "wrist")]
        # Elbow, wrist and the bones' middles: the hand is at the wrist even if the forearm is elsewhere.
        for point in (arm[1], arm[2], 0.5 * (arm[0] + arm[1]), 0.5 * (arm[1] + arm[2])):
            x, y = np.rint(point).astype(int).T
            assert (tracks["mask"][np.arange(3), y, x] == 255).all()


def test_visible_joints_lie_on_the_person() -> None:
    hits, total = 0, 0
    for index in range(15):
        tracks = sample_clip("puppets", 11, index, 64, 8).tracks
        t, joint = np.nonzero(tracks["joints"][..., 2])
        x, y = np.rint(tracks["joints"][t, joint, :2]).astype(int).T
        hits, total = hits + int((tracks["mask"][t, y, x] == 255).sum()), total + len(t)
    assert total > 800
    assert hits / total > 0.97


def test_joints_outside_the_picture_or_behind_the_body_are_not_visible() -> None:
    tracked = render(with_scene(puppet(0, "wave2"), floor=1.3, stature=0.9), 64, 2)[1]["joints"]
    ankles = tracked[:, [J["left_ankle"], J["right_ankle"]]]
    assert (ankles[..., 1] > 64).all()
    assert (ankles[..., 2] == 0).all()
    # A person who walks to the right shows the right side: the left shoulder is behind the chest.
    for facing, hidden, seen in ((1, "left_shoulder", "right_shoulder"), (-1, "right_shoulder", "left_shoulder")):
        tracked = render(with_scene(puppet(1, "walk"), facing=facing), 64, 4)[1]["joints"]
        assert (tracked[:, J[hidden], 2] == 0).all()
        assert (tracked[:, J[seen], 2] == 1).all()


@pytest.mark.parametrize("action", ["wave1", "jack", "bend"])
def test_only_the_person_changes_pixels(action: str) -> None:
    video, tracks = render(without_camera(puppet(2, action)), 64, 8)
    # The mask is cut at half coverage: two more pixels all round can hold a finger tip.
    assert_only_mask_changes(video, (tracks["mask"] > 0).any(0), by=2)


def test_mask_is_where_the_person_hides_the_wall() -> None:
    # A blue wall and a person without any blue: blue is the visible share of the wall.
    wall = Surface("plain", (0.0, 0.0, 1.0), (0.0, 0.0, 1.0), 0.2, 0.0, 0)
    made = with_scene(without_camera(puppet(3, "jack")), wall=wall, ground=None, tint=(1.0, 1.0, 1.0))
    red = replace(made.appearance.top, kind="plain", first=(0.8, 0.1, 0.0))
    appearance = replace(
        made.appearance, skin=(0.8, 0.5, 0.0), hair=(0.2, 0.1, 0.0), hair_style="short", top=red, bottom=red,
        inner=red, print="none", belt=None, socks=None, shoes=(0.5, 0.1, 0.0), soles=(0.5, 0.1, 0.0),
        gloves=None, beard=0.0,
    )  # fmt: skip
    video, tracks = render(replace(made, appearance=appearance), 64, 6)
    blue = video[..., 2] / 255
    mask = tracks["mask"] > 0
    # Dark eyes and mouth have some blue, hence not exactly one half.
    assert blue[mask].max() < 0.6
    assert blue[~mask].min() > 0.4
    for frame in range(6):
        y, x = np.nonzero(mask[frame])
        expected = [x.min(), y.min(), x.max(), y.max()]
        assert tracks["box"][frame].tolist() == expected
        assert tracks["points"][frame].tolist() == [sum(expected[0::2]) / 2, sum(expected[1::2]) / 2]


def test_the_box_holds_the_person_without_club_or_ball() -> None:
    made = without_camera(puppet(0, "throw"))
    cycle = made.motion.cycle
    tracks = render(made, 64, int((0.56 - cycle.start) * cycle.period) + 2)[1]
    y, x = np.nonzero(tracks["mask"][-1])
    outer = np.array([x.min(), y.min(), x.max(), y.max()])
    joints_x = tracks["joints"][-1, :, 0]
    # The ball is ahead of the outermost joint by more than a hand; it is in the mask and not in the box.
    assert (outer != tracks["box"][-1]).any()
    assert tracks["box"][-1, 0] > joints_x.min() - 8
    assert tracks["box"][-1, 2] < joints_x.max() + 8


@pytest.mark.parametrize("action", ACTIONS)
def test_size_scales_joints_and_picture_alike(action: str) -> None:
    made = without_camera(puppet(5, action))
    small_video, small = render(made, 64, 3)
    large_video, large = render(made, 128, 3)
    # Pixel centres are at integers: the left border of the picture is at -0.5 at every size.
    expected = (small["joints"][..., :2] + 0.5) * 2 - 0.5
    assert np.allclose(large["joints"][..., :2], expected, atol=1e-3)
    halved = large_video.reshape(3, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small_video).mean() < 4.0


# --- camera ---------------------------------------------------------------------------------------------------------
def test_the_person_moves_by_fractions_of_a_pixel() -> None:
    """A static person and a shaking camera: the centre of brightness follows the shake exactly."""
    made = without_camera(puppet(2, "wave2"))
    black = Surface("plain", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.2, 0.0, 0)
    camera = replace(made.scene.camera, shake=0.004)
    made = with_scene(made, wall=black, ground=None, stature=0.6, floor=0.92, x=0.5, camera=camera)
    wave = made.motion
    still = replace(wave, high=wave.low, bend_high=wave.bend_low, sway=0.0)
    video, tracks = render(replace(made, motion=still), 64, 16)
    light, place = video.astype(float).sum(-1), np.arange(64)
    centre = np.stack([light.sum(1) @ place, light.sum(2) @ place], -1) / light.sum(axis=(1, 2))[:, None]
    shift = 64 * camera.offset(np.arange(16.0))
    assert 0.1 < np.ptp(shift, axis=0).max() < 1.0
    assert np.abs((centre - centre[0]) - (shift - shift[0])).max() < 0.03
    head = tracks["joints"][:, J["head"], :2]
    assert np.allclose(head - head[0], shift - shift[0], atol=1e-4)


def test_the_wall_moves_by_fractions_of_a_pixel() -> None:
    made = without_camera(puppet(2, "wave2"))
    # Black at the top to white at the bottom: 255 / 64 levels per pixel, so brightness gives the shift.
    gradient = Surface("gradient", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.2, 0.0, 0)
    camera = replace(made.scene.camera, shake=0.005)
    made = with_scene(made, wall=gradient, ground=None, camera=camera, tint=(1.0, 1.0, 1.0))
    video, tracks = render(made, 64, 12)
    wall = ~(tracks["mask"] > 0).any(0)
    wall[:4] = wall[-4:] = False  # beyond the gradient's ends it is flat
    wall[:, 8:-8] = False  # away from the person
    levels = video[:, wall].astype(float).mean(axis=(1, 2))
    shift = 64 * camera.offset(np.arange(12.0))[:, 1]
    assert np.ptp(shift) > 0.1
    assert np.abs((levels - levels[0]) + (shift - shift[0]) * 255 / 64).max() < 0.15


def test_a_camera_that_follows_moves_the_wall_instead_of_the_walker() -> None:
    made = puppet(1, "walk")
    camera = replace(made.scene.camera, shake=0.0, follow=True)
    placed = place_puppet(with_scene(made, camera=camera), np.arange(30.0))
    pelvis = placed.project(placed.figure.pelvis[:, None], 64)[:, 0]
    assert np.ptp(pelvis[:, 0]) < 1e-6
    assert abs(placed.background[-1, 0]) > 0.3
    crossing = place_puppet(with_scene(made, camera=replace(camera, follow=False)), np.arange(300.0))
    x = crossing.project(crossing.figure.pelvis[:, None], 1)[:, 0, 0]
    # Crosses the picture but never leaves it, for any length of the clip: the span is 1 - 0.6 statures.
    assert np.ptp(x) == pytest.approx(1 - 0.6 * made.scene.stature, abs=0.01)
    assert x[-1] + 0.5 - made.scene.x == pytest.approx(crossing.flip * (0.5 - 0.3 * made.scene.stature), abs=0.01)


@pytest.mark.parametrize("action", ["walk", "run"])
def test_a_crossing_person_moves_evenly_and_the_box_follows(action: str) -> None:
    made = with_scene(without_camera(puppet(3, action)), facing=1, x=0.5)
    tracks = render(made, 64, 10)[1]
    per_frame = ACTIONS[action].gait(made.motion, made.body).speed / 25 * made.scene.stature * 64
    distance = tracks["points"][-1, 0] - tracks["points"][0, 0]
    assert distance == pytest.approx(9 * per_frame, abs=0.12 * made.scene.stature * 64)  # limbs move the box's middle
    assert (np.diff(tracks["joints"][:, J["head"], 0]) > 0).all()


def test_a_runner_crosses_faster_than_a_walker() -> None:
    walker, runner = (with_scene(without_camera(puppet(3, action)), facing=1, x=0.5) for action in ("walk", "run"))
    slow, fast = (np.ptp(render(made, 64, 10)[1]["points"][[0, -1], 0]) for made in (walker, runner))
    assert fast > slow


# --- flow -----------------------------------------------------------------------------------------------------------
def render_clean(seed: int, action: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A clip without noise, flicker, blur and shadow; the camera may shake and pan."""
    name, _, staging = action.partition(" ")
    made = replace(puppet(seed, name), turned=bool(staging))
    clean = with_scene(made, noise=0.0, flicker=0.0, softness=0.0, shutter=0.0, shadow=0.0)
    return render(clean, 64, 4)


STAGED = (*ACTIONS, *(f"{action} front" for action in puppets.FROM_FRONT))


@pytest.mark.parametrize("action", STAGED)
def test_the_flow_leads_to_the_same_pixels(action: str) -> None:
    grid = np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1).astype(np.float32)
    for seed in SEEDS:
        video, tracks = render_clean(seed, action)
        for t in range(3):
            for name, inverse, now, then in (("forward", "backward", t, t + 1), ("backward", "forward", t + 1, t)):
                flow, back = (tracks[f"flow_{which}"][t].astype(np.float32) for which in (name, inverse))
                there, returned = grid + flow, flow + warp(back, flow)
                seen = (np.linalg.norm(returned, axis=-1) < 0.1) & ((there >= 0) & (there <= 63)).all(-1)
                assert seen.mean() > 0.75  # the rest is hidden, or a mixture at a border
                error = np.abs(warp(video[then], flow) - video[now]).mean(-1)
                # Grey levels out of 255: the cost of resampling fine patterns by fractions of a pixel.
                assert error[seen].mean() < 6
                person = seen & (tracks["mask"][now] > 0)
                assert error[person].mean() < 10


@pytest.mark.parametrize("action", STAGED)
def test_the_flow_at_a_visible_joint_is_the_joints_step(action: str) -> None:
    errors, nearby = [], []
    for seed in SEEDS:
        _, tracks = render_clean(seed, action)
        for t in range(3):
            here, step = tracks["joints"][t], np.diff(tracks["joints"][t : t + 2, :, :2], axis=0)[0]
            for joint in np.flatnonzero(here[:, 2]):
                x, y = np.rint(here[joint, :2]).astype(int)
                patch = tracks["flow_forward"][t, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                off = np.abs(patch - step[joint]).max(-1)
                if tracks["mask"][t, y, x]:
                    errors.append(off[min(y, 1), min(x, 1)])
                    nearby.append(off.min())
    assert len(errors) > 80
    # Where another part begins within the joint's pixel, that part may hold most of it: then a neighbour is right.
    assert np.mean(np.array(errors) < 1.0) > 0.97
    assert max(nearby) < 0.75


def test_the_background_flows_with_the_camera() -> None:
    made = puppet(1, "run")
    made = with_scene(made, camera=replace(made.scene.camera, shake=0.006, follow=True))
    tracks = render(made, 64, 5)[1]
    moved = 64 * np.diff(place_puppet(made, np.arange(5.0)).background, axis=0)
    assert np.abs(moved[:, 0]).min() > 1  # the camera pans along
    for t in range(4):
        wall = tracks["mask"][t] == 0
        assert np.allclose(tracks["flow_forward"][t][wall], moved[t], atol=0.01)
        assert np.allclose(tracks["flow_backward"][t][tracks["mask"][t + 1] == 0], -moved[t], atol=0.01)


# --- distant figures ------------------------------------------------------------------------------------------------


# 0.7, 1.4 and 2.05 body heights per second (docs/worlds.md), 0.4 picture heights tall, 25 frames per second.
@pytest.mark.parametrize(("action", "speed"), [("walk", 0.72), ("jog", 1.43), ("run", 2.1)])
def test_distant_figures_move_at_their_gaits_speed_over_a_static_background(action: str, speed: float) -> None:
    steps = []
    for index in range(12):
        clip = sample_clip("puppets", 5, index, size=64, frames=17, action=action, staging="far")
        box = np.asarray(clip.tracks["box"])
        assert (box[:, 3] - box[:, 1]).max() < 0.5 * 64
        steps.append(abs(clip.tracks["joints"][-1, 0, 0] - clip.tracks["joints"][0, 0, 0]) / 16)
    assert np.median(steps) == pytest.approx(speed, rel=0.25)
    flow, mask = np.asarray(clip.tracks["flow_forward"], np.float32), np.asarray(clip.tracks["mask"])
    assert np.abs(flow[mask[:-1] == 0]).max() < 0.3  # only the camera's shake


def test_only_gaits_of_puppets_are_distant() -> None:
    refuses("walk, jog or run", sample_clip, "puppets", 0, 0, action="jack", staging="far")
    refuses("Only puppets", sample_clip, "digits", 0, 0, staging="far")
    refuses("far, treadmill or front", sample_clip, "puppets", 0, 0, staging="close")


def test_on_a_treadmill_the_figure_walks_as_with_a_camera_that_pans_and_the_background_stands() -> None:
    walks = (sample_clip("puppets", 7, index, frames=12, action="walk") for index in range(12))
    panned = next(clip for clip in walks if clip.meta["description"]["scene"]["camera"]["follow"])
    treadmill = sample_clip("puppets", 7, panned.meta["index"], frames=12, action="walk", staging="treadmill")
    assert np.array_equal(treadmill.tracks["joints"], panned.tracks["joints"])
    moved = [
        np.abs(np.asarray(clip.tracks["flow_forward"], np.float32)[clip.tracks["mask"][:-1] == 0]).max()
        for clip in (treadmill, panned)
    ]
    assert moved[0] < 0.3 < 1 < moved[1]  # only the camera's shake; a walk has 1.4 pixels and more a frame


def test_distance_changes_the_scene_and_nothing_else() -> None:
    near, far = (puppets.sample_description(np.random.default_rng(3), "run", staging) for staging in ("", "far"))
    assert far.body == near.body
    assert far.motion == near.motion
    assert far.scene.wall == near.scene.wall
    assert far.scene.stature < 0.5 < near.scene.stature + 0.1


# --- actions of the side view, from the front -----------------------------------------------------------------------


@pytest.mark.parametrize("action", puppets.FROM_FRONT)
def test_from_the_front_heights_stay_and_both_sides_are_mirrored(action: str) -> None:
    side = puppet(4, action)
    side = with_scene(side, camera=replace(side.scene.camera, follow=True))
    front = replace(side, turned=True)
    times = np.arange(0, 60, 1.3)
    before, after = (place_puppet(each, times).figure for each in (side, front))
    for name in ("hip", "knee", "ankle"):
        assert np.allclose(getattr(before, name)[..., 1], getattr(after, name)[..., 1])
    rise = (before.pelvis - before.chest)[:, 1]
    upright = rise > 0.9 * side.body.torso
    assert np.allclose(before.wrist[upright, :, 1], after.wrist[upright, :, 1], atol=0.1 * side.body.torso)
    assert ((after.pelvis - after.chest)[:, 1] >= 0.35 * side.body.torso - 1e-9).all()  # the trunk has a depth
    for pair in (after.shoulder, after.hip, after.ankle):
        assert np.allclose(pair[:, 0, 0], -pair[:, 1, 0])
        assert (pair[:, 0, 0] > 0).all()
    assert np.allclose(after.pelvis[:, 0], 0)  # on the spot


def test_a_bone_that_points_at_the_camera_is_short_and_drawn_along_its_joints() -> None:
    squat = replace(puppet(4, "squat"), turned=True)
    figure = place_puppet(squat, np.arange(0, 80.0)).figure
    seen = np.linalg.norm(figure.knee - figure.hip, axis=-1) / squat.body.thigh
    assert seen.min() < 0.6 < 0.95 < seen.max()
    assert np.allclose(figure.lengths["thigh"], seen)
    angle, sign = figure.pose.hip, np.array([1.0, -1.0])
    along = np.stack([sign * np.sin(angle), np.cos(angle)], -1) * (seen * squat.body.thigh)[..., None]
    assert np.allclose(figure.hip + along, figure.knee)


def test_only_actions_of_the_side_view_are_turned() -> None:
    clips = {name: sample_clip("puppets", 3, 1, frames=1, action=name, staging="front") for name in ("bend", "throw")}
    assert {name: clip.meta["view"] for name, clip in clips.items()} == {"bend": "front", "throw": "side"}
