"""The motions of the world `puppets`: bones, gaits, squat, swing and throw."""

from dataclasses import replace

import numpy as np
import pytest

from stillmotion.worlds.puppets import ACTIONS, Puppet, render, sample
from stillmotion.worlds.puppets.gaits import Gait, walk_distance
from stillmotion.worlds.puppets.render import place_puppet
from stillmotion.worlds.puppets.skeleton import forward_kinematics, sole_offsets
from test_world_puppets import GAITS, SEEDS, J, moving_joints, puppet

BONES = [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")]


def joint_paths(made: Puppet, cycles: float, count: int) -> dict[str, np.ndarray]:
    """The joints at `count` times over some cycles, by name, T x 2 each."""
    places = moving_joints(made, np.linspace(0, cycles * made.motion.cycle.period, count))
    return {name: places[:, index] for name, index in J.items()}


def sole_positions(made: Puppet, times: np.ndarray) -> np.ndarray:
    """T x 4 x 2, heel and ball of both feet in body coordinates."""
    pose = ACTIONS[made.action].pose(made.motion, made.body, times)
    pelvis = forward_kinematics(made.body, pose, "side").pelvis
    return sole_offsets(made.body, pose, "side") + pelvis[:, None]


def gait_of(made: Puppet) -> Gait:
    return ACTIONS[made.action].gait(made.motion, made.body)


# --- all actions ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("action", ACTIONS)
def test_bones_keep_their_length(action: str, seed: int) -> None:
    made = puppet(seed, action)
    places = moving_joints(made, np.arange(0, 80, 1.7))
    lengths = [made.body.upper_arm, made.body.forearm, made.body.thigh, made.body.shin]
    for (near, far), length in zip(BONES, lengths, strict=True):
        for side in ("left", "right"):
            bone = places[:, J[f"{side}_{far}"]] - places[:, J[f"{side}_{near}"]]
            assert np.allclose(np.linalg.norm(bone, axis=-1), length, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("action", ACTIONS)
def test_motion_has_no_jumps(action: str, seed: int) -> None:
    places = moving_joints(puppet(seed, action), np.arange(0, 90, 0.02))
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    # The fastest joints: the wrist in a jack (an arm of 0.34 statures swings 3 radians in 11 frames, at most 2.0
    # times as fast as on average: 0.19 statures per frame; hop and elbow add a little) and a runner's ankle. It
    # comes forward more than twice as fast as the trunk, which makes 0.1 statures per frame at most.
    assert steps.max() < 0.02 * 0.25
    # And the speed itself changes gradually: in 0.02 frames by less than 5 % of the top speed, or of 0.05
    # statures per frame for slow actions.
    assert np.abs(np.diff(steps, axis=0)).max() < 0.05 * max(steps.max(), 0.02 * 0.05)


def test_left_is_the_persons_own_left() -> None:
    places = moving_joints(puppet(0, "wave2"), np.arange(3.0))
    for name in ("shoulder", "wrist", "hip", "ankle"):
        assert (places[:, J[f"left_{name}"], 0] > places[:, J[f"right_{name}"], 0]).all()


# --- waving, jacks, bending -----------------------------------------------------------------------------------------
def wrist_extents(made: Puppet) -> np.ndarray:
    """The diagonal of the box around each wrist's path (left, right), in statures."""
    places = moving_joints(made, np.arange(0, 100.0))
    return np.linalg.norm(np.ptp(places[:, [J["left_wrist"], J["right_wrist"]]], axis=0), axis=-1)


def test_wave1_moves_one_wrist_and_wave2_both() -> None:
    moving = set()
    for seed in range(12):
        left, right = wrist_extents(puppet(seed, "wave1"))
        assert max(left, right) > 0.1
        assert min(left, right) < 0.025
        moving.add("left" if left > right else "right")
        assert wrist_extents(puppet(seed, "wave2")).min() > 0.1
    assert moving == {"left", "right"}


@pytest.mark.parametrize("seed", SEEDS)
def test_jack_opens_the_legs_while_the_arms_go_up_and_hops(seed: int) -> None:
    made = puppet(seed, "jack")
    path = joint_paths(made, 2, 200)
    apart = path["left_ankle"][:, 0] - path["right_ankle"][:, 0]
    assert apart.min() < 0.2
    assert np.ptp(apart) > 0.1
    assert np.corrcoef(apart, -path["left_wrist"][:, 1])[0, 1] > 0.8
    soles = -np.maximum(path["left_ankle"][:, 1], path["right_ankle"][:, 1]) - made.body.ankle
    assert soles.max() > 0.01
    assert abs(soles.min()) < 0.005


@pytest.mark.parametrize("seed", SEEDS)
def test_bend_brings_the_hands_down_and_keeps_the_feet(seed: int) -> None:
    path = joint_paths(puppet(seed, "bend"), 2, 200)
    assert np.ptp(path["left_wrist"][:, 1]) > 0.12
    assert np.ptp(path["head"][:, 1]) > 0.2
    assert path["head"][:, 0].max() > 0.2
    assert np.ptp(0.5 * (path["left_ankle"] + path["right_ankle"]), axis=0).max() < 0.02


# --- gaits ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_walking_ankles_alternate_against_the_arms(seed: int) -> None:
    path = joint_paths(puppet(seed, "walk"), 4, 400)
    ankles = path["left_ankle"][:, 0] - path["right_ankle"][:, 0]
    wrists = path["left_wrist"][:, 0] - path["right_wrist"][:, 0]
    # Each leg leads once per stride: two changes of leader, eight in four strides (give or take one).
    assert int((np.diff(np.sign(ankles)) != 0).sum()) in (7, 8, 9)
    assert np.corrcoef(ankles, wrists)[0, 1] < -0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_walking_goes_forward_with_a_foot_on_the_floor(seed: int) -> None:
    made, times = puppet(seed, "walk"), np.linspace(0, 60, 600)
    assert (np.diff(ACTIONS["walk"].pose(made.motion, made.body, times).x) > 0).all()
    assert np.abs(sole_positions(made, times)[..., 1].max(1)).max() < 0.01
    stride, two = walk_distance(made.motion, made.body, np.array([1.0, 2.0]))
    assert 0.4 < stride < 1.1
    assert two == pytest.approx(2 * stride)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("action", GAITS)
def test_runners_fly_and_walkers_never_do(action: str, seed: int) -> None:
    made = puppet(seed, action)
    heights = -sole_positions(made, np.linspace(0, 4 * made.motion.cycle.period, 800))[..., 1].max(1)
    assert heights.min() > -0.01  # no foot sinks in
    flight = gait_of(made).flight
    if action == "walk":
        assert flight == 0
        assert heights.max() < 0.002
    else:
        # Rounded corners: the first and last moments of a flight are lower than 3 thousandths.
        assert flight - 0.08 < (heights > 0.003).mean() <= flight + 0.02
        assert heights.max() > 0.01


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("action", GAITS)
def test_the_stride_rate_in_meta_is_that_of_the_ankles(action: str, seed: int) -> None:
    clip = sample(np.random.default_rng([5, seed]), size=16, frames=100, action=action)
    left, right = (clip.tracks["joints"][:, J[f"{side}_ankle"], 0] for side in ("left", "right"))
    lead = (left - right) * clip.meta["description"]["scene"]["facing"]
    before = np.flatnonzero((lead[:-1] < 0) & (lead[1:] >= 0))  # the left foot takes the lead: once per stride
    moments = before - lead[before] / (lead[before + 1] - lead[before])
    rate = clip.fps * (len(moments) - 1) / (moments[-1] - moments[0])
    gait = clip.meta["gait"]
    assert rate == pytest.approx(gait["stride_hz"], rel=0.03)  # the tempo varies by up to 2 % of a stride
    assert gait["cadence_hz"] == pytest.approx(2 * gait["stride_hz"])
    assert gait["speed"] == pytest.approx(gait["stride_length"] * gait["stride_hz"])


@pytest.mark.parametrize("action", GAITS)
def test_meta_speed_is_the_speed_over_the_ground(action: str) -> None:
    made = puppet(1, action)
    strides = 4 * made.motion.cycle.period
    x = ACTIONS[action].pose(made.motion, made.body, np.array([0.0, strides])).x
    assert (x[1] - x[0]) / strides * 25 == pytest.approx(gait_of(made).speed, rel=0.02)


def test_cadence_and_stride_rise_from_walk_to_run() -> None:
    facts = [[gait_of(puppet(seed, action)) for seed in range(12)] for action in GAITS]
    for fact in ("cadence_hz", "stride_length", "speed", "flight"):
        means = [np.mean([getattr(gait, fact) for gait in gaits]) for gaits in facts]
        assert means[0] < means[1] < means[2]
    assert all(1.3 < gait.cadence_hz < 2.45 for gait in facts[0])
    assert all(2.5 <= gait.cadence_hz <= 2.75 for gait in facts[1])
    assert all(2.75 <= gait.cadence_hz <= 3.2 for gait in facts[2])


@pytest.mark.parametrize(("action", "stance", "swing"), [("walk", 17, 60), ("jog", 40, 85), ("run", 43, 105)])
def test_knee_flexion_is_that_of_gait_studies(action: str, stance: float, swing: float) -> None:
    made = puppet(0, action)
    motion = replace(made.motion, knee=1.0, cycle=replace(made.motion.cycle, start=0.0, jitter=0.0))
    times = np.linspace(0, motion.cycle.period, 200)
    flexion = -np.degrees(ACTIONS[action].pose(motion, made.body, times).knee[:, 0])
    # Phase 0 is the left foot's strike: its stance lasts the first third at least.
    assert flexion[:60].max() == pytest.approx(stance, abs=3)
    assert flexion.max() == pytest.approx(swing, abs=3)
    assert 60 < np.argmax(flexion) / 2 < 75  # percent of the stride
    assert flexion.min() > -1  # knees never bend forward


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("action", GAITS)
def test_the_standing_foot_hardly_slides(action: str, seed: int) -> None:
    made = puppet(seed, action)
    times = np.linspace(0, 2 * made.motion.cycle.period, 600)
    places = sole_positions(made, times)
    lowest = places[..., 1].argmax(1)
    step = np.diff(places[..., 0], axis=0)[np.arange(599), lowest[1:]]
    down = (lowest[1:] == lowest[:-1]) & (-places[1:, :, 1].max(1) < 0.004)
    forward = np.diff(ACTIONS[action].pose(made.motion, made.body, times).x)
    assert abs(step[down].mean()) < 0.2 * forward.mean()


# --- squat, swing, throw --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_squats_lower_the_hips_over_feet_that_stay(seed: int) -> None:
    made = puppet(seed, "squat")
    path = joint_paths(made, 1, 200)
    assert np.ptp(path["left_hip"][:, 1]) > 0.5 * made.body.thigh
    assert np.ptp(0.5 * (path["left_ankle"] + path["right_ankle"]), axis=0).max() < 0.02
    knee = ACTIONS["squat"].pose(made.motion, made.body, np.linspace(0, made.motion.cycle.period, 50)).knee
    assert 80 < -np.degrees(knee.min()) < 135


def test_both_hands_swing_the_club_through_the_lowest_point() -> None:
    hands = set()
    for seed in range(8):
        made = puppet(seed, "swing")
        path = joint_paths(made, 1, 400)
        left, right = path["left_wrist"], path["right_wrist"]
        assert np.linalg.norm(left - right, axis=-1).max() < 0.04
        assert np.ptp(left[:, 0]) > 0.3  # from one side to the other
        assert (left[:, 1] < path["head"][:, 1] + 0.12).any()
        assert left[:, 1].max() > path["left_shoulder"][:, 1].max() + 0.2
        club = place_puppet(made, np.linspace(0, made.motion.cycle.period, 400)).held
        assert club is not None
        tip = club.point + club.length * np.stack([np.sin(club.angle), np.cos(club.angle)], -1)
        assert -0.06 < tip[:, 1].max() < 0.06  # reaches the ground, about
        hands.add(made.motion.hand)
        assert np.ptp(path["left_ankle"], axis=0).max() < 0.03
    assert hands == {-1.0, 1.0}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_thrown_ball_leaves_with_the_hands_velocity_and_falls(seed: int) -> None:
    made = puppet(seed, "throw")
    cycle = replace(made.motion.cycle, jitter=0.0, start=0.0)
    made, step = replace(made, motion=replace(made.motion, cycle=cycle)), 0.05
    ball = place_puppet(made, np.arange(0.45 * cycle.period, 0.7 * cycle.period, step)).held
    assert ball is not None
    free = ball.front
    assert free.any()
    assert not free.all()
    speed = np.diff(ball.point, axis=0) / step
    released = int(np.flatnonzero(free)[0])
    # No jump of place or speed at release; afterwards only gravity, 9.81 m/s2 for a person of 1.72 m.
    assert np.linalg.norm(speed[released] - speed[released - 2]) < 0.1 * np.linalg.norm(speed[released])
    assert speed[released, 0] > 0.1
    fall = np.diff(speed[released + 1 :], axis=0) / step
    assert np.allclose(fall, [0, 9.81 / 1.72 / 625], atol=1e-6)
    path = joint_paths(made, 1, 100)
    for ankle in ("left_ankle", "right_ankle"):
        assert np.ptp(path[ankle], axis=0).max() < 0.03
    # The ball is not in the person's box.
    tracks = render(made, 48, 3)[1]
    assert (tracks["box"][:, 2] - tracks["box"][:, 0] < 48).all()
