"""Puppets: gaits, sports and flow. What holds for every action is in `test_worlds.py`."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from stillmotion.errors import StillmotionError
from stillmotion.worlds import puppets, sample_clip
from stillmotion.worlds.puppets import ACTIONS, Puppet, render, sample
from stillmotion.worlds.puppets.render import stage
from stillmotion.worlds.puppets.skeleton import place, sole_reach
from test_worlds import SEEDS, J, moving_joints, puppet, quiet

# --- gaits ----------------------------------------------------------------------------------------------------------

GAITS = ("walk", "jog", "run")


def soles(made: Puppet, times: np.ndarray) -> np.ndarray:
    """T x 4, the height of heel and ball of both feet over the floor, in statures."""
    pose = ACTIONS[made.action].pose(made.motion, made.body, times)
    return -(sole_reach(made.body, pose, "side") + place(made.body, pose, "side").pelvis[:, None])[..., 1]


@pytest.mark.parametrize("action", GAITS)
def test_runners_fly_and_walkers_never_do(action: str) -> None:
    for seed in SEEDS:
        made = puppet(seed, action)
        heights = soles(made, np.linspace(0, 4 * made.motion.clock.period, 800)).min(1)
        assert heights.min() > -0.01  # no foot sinks in
        flight = ACTIONS[action].gait(made.motion, made.body).flight
        if action == "walk":
            assert flight == 0
            assert heights.max() < 0.002
        else:
            # Rounded corners: the first and last moments of a flight are lower than 3 thousandths.
            assert flight - 0.08 < (heights > 0.003).mean() <= flight + 0.02
            assert heights.max() > 0.01


@pytest.mark.parametrize("action", GAITS)
def test_the_stride_rate_in_meta_is_that_of_the_ankles(action: str) -> None:
    for seed in range(2):
        clip = sample(np.random.default_rng([5, seed]), size=16, frames=100, action=action)
        left, right = (clip.tracks["joints"][:, J[f"{side}_ankle"], 0] for side in ("left", "right"))
        lead = (left - right) * clip.meta["description"]["scene"]["facing"]
        before = np.flatnonzero((lead[:-1] < 0) & (lead[1:] >= 0))  # the left foot takes the lead: once per stride
        moments = before - lead[before] / (lead[before + 1] - lead[before])
        rate = clip.fps * (len(moments) - 1) / (moments[-1] - moments[0])
        gait = clip.meta["gait"]
        assert rate == pytest.approx(gait["stride_hz"], rel=0.03)  # the tempo wobbles by up to 2 % of a stride
        assert gait["cadence_hz"] == pytest.approx(2 * gait["stride_hz"])
        assert gait["speed"] == pytest.approx(gait["stride_length"] * gait["stride_hz"])


def test_meta_speed_is_the_speed_over_the_ground() -> None:
    for action in GAITS:
        made = puppet(1, action)
        strides = 4 * made.motion.clock.period
        x = ACTIONS[action].pose(made.motion, made.body, np.array([0.0, strides])).x
        speed = ACTIONS[action].gait(made.motion, made.body).speed
        assert (x[1] - x[0]) / strides * 25 == pytest.approx(speed, rel=0.02)
    clip = sample(np.random.default_rng(0), size=16, frames=1, action="squat")
    assert "gait" not in clip.meta


def test_cadence_and_stride_rise_from_walk_to_run() -> None:
    facts = [[ACTIONS[a].gait(m.motion, m.body) for m in (puppet(seed, a) for seed in range(12))] for a in GAITS]
    for fact in ("cadence_hz", "stride_length", "speed", "flight"):
        means = [np.mean([getattr(gait, fact) for gait in gaits]) for gaits in facts]
        assert means[0] < means[1] < means[2]
    assert all(1.3 < gait.cadence_hz < 2.45 for gait in facts[0])
    assert all(2.5 <= gait.cadence_hz <= 2.75 for gait in facts[1])
    assert all(2.75 <= gait.cadence_hz <= 3.2 for gait in facts[2])


@pytest.mark.parametrize(("action", "standing", "swinging"), [("walk", 17, 60), ("jog", 40, 85), ("run", 43, 105)])
def test_knees_bend_as_far_as_in_gait_studies(action: str, standing: float, swinging: float) -> None:
    made = puppet(0, action)
    motion = replace(made.motion, knee=1.0, clock=replace(made.motion.clock, start=0.0, wobble=0.0))
    bend = -np.degrees(ACTIONS[action].pose(motion, made.body, np.linspace(0, motion.clock.period, 200)).knee[:, 0])
    # Phase 0 is the left foot's strike: it stands for the first third at least.
    assert bend[:60].max() == pytest.approx(standing, abs=3)
    assert bend.max() == pytest.approx(swinging, abs=3)
    assert 60 < np.argmax(bend) / 2 < 75  # percent of the stride
    assert bend.min() > -1  # knees never bend forward


@pytest.mark.parametrize("action", GAITS)
def test_the_standing_foot_hardly_slides(action: str) -> None:
    for seed in SEEDS:
        made = puppet(seed, action)
        times = np.linspace(0, 2 * made.motion.clock.period, 600)
        pose = ACTIONS[action].pose(made.motion, made.body, times)
        places = sole_reach(made.body, pose, "side") + place(made.body, pose, "side").pelvis[:, None]
        lowest = places[..., 1].argmax(1)
        same = lowest[1:] == lowest[:-1]
        step = np.diff(places[..., 0], axis=0)[np.arange(599), lowest[1:]]
        down = same & (-places[1:, :, 1].max(1) < 0.004)
        assert abs(step[down].mean()) < 0.2 * np.diff(pose.x).mean()


def test_a_crossing_runner_moves_evenly_and_the_box_follows() -> None:
    made = quiet(replace(puppet(3, "run")))
    scene = replace(made.scene, facing=1, x=0.5)
    tracks = render(replace(made, scene=scene), 64, 10)[1]
    walker = quiet(puppet(3, "walk"))
    slow = render(replace(walker, scene=replace(walker.scene, facing=1, x=0.5)), 64, 10)[1]
    for made_tracks, action, who in ((tracks, "run", made), (slow, "walk", walker)):
        per_frame = ACTIONS[action].gait(who.motion, who.body).speed / 25 * who.scene.stature * 64
        way = made_tracks["points"][-1, 0] - made_tracks["points"][0, 0]
        assert way == pytest.approx(9 * per_frame, abs=0.12 * who.scene.stature * 64)  # limbs move the box's middle
        assert (np.diff(made_tracks["joints"][:, J["head"], 0]) > 0).all()
    assert tracks["points"][-1, 0] - tracks["points"][0, 0] > slow["points"][-1, 0] - slow["points"][0, 0]


# --- squat, swing, throw --------------------------------------------------------------------------------------------


def test_squats_lower_the_hips_over_feet_that_stay() -> None:
    for seed in SEEDS:
        made = puppet(seed, "squat")
        places = moving_joints(made, np.linspace(0, made.motion.clock.period, 200))
        assert np.ptp(places[:, J["left_hip"], 1]) > 0.5 * made.body.thigh
        ankles = 0.5 * (places[:, J["left_ankle"]] + places[:, J["right_ankle"]])
        assert np.ptp(ankles, axis=0).max() < 0.02
        knee = ACTIONS["squat"].pose(made.motion, made.body, np.linspace(0, made.motion.clock.period, 50)).knee
        assert 80 < -np.degrees(knee.min()) < 135


def test_both_hands_swing_the_club_through_the_lowest_point() -> None:
    hands = set()
    for seed in range(8):
        made = puppet(seed, "swing")
        period = made.motion.clock.period
        times = np.linspace(0, period, 400)
        places = moving_joints(made, times)
        left, right = places[:, J["left_wrist"]], places[:, J["right_wrist"]]
        assert np.linalg.norm(left - right, axis=-1).max() < 0.04
        head = places[:, J["head"], 1]
        assert np.ptp(left[:, 0]) > 0.3  # from one side to the other
        assert (left[:, 1] < head + 0.12).any()
        assert left[:, 1].max() > places[:, J["left_shoulder"], 1].max() + 0.2
        club = stage(made, times).thing
        assert club is not None
        tip = club.point + club.length * np.stack([np.sin(club.angle), np.cos(club.angle)], -1)
        assert -0.06 < tip[:, 1].max() < 0.06  # reaches the ground, about
        hands.add(made.motion.hand)
        feet = places[:, J["left_ankle"]]
        assert np.ptp(feet, axis=0).max() < 0.03
    assert hands == {-1.0, 1.0}


def test_a_thrown_ball_leaves_with_the_hands_speed_and_falls() -> None:
    for seed in SEEDS:
        made = puppet(seed, "throw")
        clock = replace(made.motion.clock, wobble=0.0, start=0.0)
        motion = replace(made.motion, clock=clock)
        made = replace(made, motion=motion)
        step = 0.05
        times = np.arange(0.45 * clock.period, 0.7 * clock.period, step)
        ball = stage(made, times).thing
        assert ball is not None
        free = ball.front
        assert free.any()
        assert not free.all()
        speed = np.diff(ball.point, axis=0) / step
        released = int(np.flatnonzero(free)[0])
        # No jump of place or speed as it leaves; afterwards only gravity, 9.81 m/s2 for someone of 1.72 m.
        assert np.linalg.norm(speed[released] - speed[released - 2]) < 0.1 * np.linalg.norm(speed[released])
        assert speed[released, 0] > 0.1
        fall = np.diff(speed[released + 1 :], axis=0) / step
        assert np.allclose(fall, [0, 9.81 / 1.72 / 625], atol=1e-6)
        stays = moving_joints(made, np.linspace(0, clock.period, 100))
        for ankle in ("left_ankle", "right_ankle"):
            assert np.ptp(stays[:, J[ankle]], axis=0).max() < 0.03
        # The ball is the only thing outside the person's box.
        tracks = render(made, 48, 3)[1]
        assert (tracks["box"][:, 2] - tracks["box"][:, 0] < 48).all()


def test_the_box_holds_the_person_without_club_or_ball() -> None:
    made = quiet(puppet(0, "throw"))
    clock = made.motion.clock
    times = int((0.56 - clock.start) * clock.period) + 1
    tracks = render(made, 64, times + 1)[1]
    y, x = np.nonzero(tracks["mask"][-1])
    outer = np.array([x.min(), y.min(), x.max(), y.max()])
    joints_x = tracks["joints"][-1, :, 0]
    # The ball is ahead of the outermost joint by more than a hand; the mask has it, the box has not.
    assert (outer != tracks["box"][-1]).any()
    assert tracks["box"][-1, 0] > joints_x.min() - 8
    assert tracks["box"][-1, 2] < joints_x.max() + 8


# --- flow -----------------------------------------------------------------------------------------------------------


def flowing(seed: int, action: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A clip without noise, flicker, blur and shadow; the camera may shake and pan."""
    made = puppet(seed, action)
    return render(
        replace(made, scene=replace(made.scene, noise=0.0, flicker=0.0, softness=0.0, shutter=0.0, shadow=0.0)), 64, 4
    )


def read(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    x, y = np.moveaxis(places.astype(np.float32), -1, 0)
    return cv2.remap(picture.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("action", ACTIONS)
def test_the_flow_leads_to_the_same_pixels(action: str) -> None:
    grid = np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1).astype(np.float32)
    for seed in SEEDS:
        video, tracks = flowing(seed, action)
        for t in range(3):
            for way, now, then in (("forward", t, t + 1), ("backward", t + 1, t)):
                other = "backward" if way == "forward" else "forward"
                there = grid + tracks[f"flow_{way}"][t]
                returned = tracks[f"flow_{way}"][t] + read(tracks[f"flow_{other}"][t], there)
                seen = (np.linalg.norm(returned, axis=-1) < 0.1) & ((there >= 0) & (there <= 63)).all(-1)
                assert seen.mean() > 0.75  # the rest is hidden, or a mixture at a border
                error = np.abs(read(video[then], there) - video[now]).mean(-1)
                # Grey levels out of 255: what resampling a picture of fine patterns by parts of a pixel costs.
                assert error[seen].mean() < 6
                person = seen & (tracks["mask"][now] > 0)
                assert error[person].mean() < 10


@pytest.mark.parametrize("action", ACTIONS)
def test_the_flow_at_a_visible_joint_is_the_joints_step(action: str) -> None:
    errors, nearby = [], []
    for seed in SEEDS:
        _, tracks = flowing(seed, action)
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
    camera = replace(made.scene.camera, shake=0.006, follow=True)
    made = replace(made, scene=replace(made.scene, camera=camera))
    tracks = render(made, 64, 5)[1]
    moved = 64 * np.diff(stage(made, np.arange(5.0)).background, axis=0)
    assert np.abs(moved[:, 0]).min() > 1  # the camera pans along
    for t in range(4):
        wall = tracks["mask"][t] == 0
        assert np.allclose(tracks["flow_forward"][t][wall], moved[t], atol=0.01)
        assert np.allclose(tracks["flow_backward"][t][tracks["mask"][t + 1] == 0], -moved[t], atol=0.01)


def test_a_single_frame_has_no_flow() -> None:
    tracks = sample(np.random.default_rng(0), size=16, frames=1).tracks
    assert tracks["flow_forward"].shape == tracks["flow_backward"].shape == (0, 16, 16, 2)


def test_from_afar_the_step_tells_the_gait_and_the_background_stands_still():
    speeds = {}
    for action in ("walk", "jog", "run"):
        steps = []
        for index in range(12):
            clip = sample_clip("puppets", 5, index, size=64, frames=17, action=action, far=True)
            box = np.asarray(clip.tracks["box"])
            assert (box[:, 3] - box[:, 1]).max() < 0.5 * 64
            steps.append(abs(clip.tracks["joints"][-1, 0, 0] - clip.tracks["joints"][0, 0, 0]) / 16)
        speeds[action] = np.median(steps)
        flow, mask = np.asarray(clip.tracks["flow_forward"], np.float32), np.asarray(clip.tracks["mask"])
        assert np.abs(flow[mask[:-1] == 0]).max() < 0.3  # the hand's shake alone
    # 0.7, 1.4 and 2.05 body heights per second (docs/worlds.md), 0.4 picture heights tall, 25 frames per second.
    expected = {"walk": 0.72, "jog": 1.43, "run": 2.1}
    assert {name: pytest.approx(value, rel=0.25) for name, value in expected.items()} == speeds


def test_only_gaits_of_puppets_are_seen_from_afar():
    with pytest.raises(StillmotionError, match="walks, jogs or runs"):
        sample_clip("puppets", 0, 0, action="jack", far=True)
    with pytest.raises(StillmotionError, match="Only puppets"):
        sample_clip("digits", 0, 0, far=True)


def test_afar_changes_the_scene_and_nothing_else():
    near, far = (puppets.describe(np.random.default_rng(3), "run", far) for far in (False, True))
    assert far.body == near.body
    assert far.motion == near.motion
    assert far.scene.wall == near.scene.wall
    assert far.scene.stature < 0.5 < near.scene.stature + 0.1
