"""The worlds: repeatable clips whose tracks tell the truth about their pixels."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stillmotion.worlds.puppets.textures import Wall

from stillmotion.data.shards import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.worlds import WORLDS, sample_clip
from stillmotion.worlds.dataset import write_world
from stillmotion.worlds.puppets import ACTIONS, JOINTS, Puppet, describe, render, sample
from stillmotion.worlds.puppets.gaits import walked
from stillmotion.worlds.puppets.render import stage
from stillmotion.worlds.puppets.skeleton import joints, place, sole_reach

J = {name: i for i, name in enumerate(JOINTS)}
BONES = [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")]
SEEDS = range(4)


def puppet(seed: int, action: str) -> Puppet:
    return describe(np.random.default_rng([7, seed]), action)


def quiet(made: Puppet) -> Puppet:
    """The same puppet before a tripod and a perfect lens, so that only the person changes pixels."""
    scene = replace(
        made.scene, camera=replace(made.scene.camera, shake=0.0, follow=False), noise=0.0, flicker=0.0,
        softness=0.0, shutter=0.0, shadow=0.0,
    )  # fmt: skip
    return replace(made, scene=scene)


def moving_joints(made: Puppet, times: np.ndarray) -> np.ndarray:
    """T x 13 x 2, in statures, relative to the body's origin."""
    return joints(stage(made, times).figure)


def test_penn_actions_order_of_joints() -> None:
    assert JOINTS == (
        "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    )  # fmt: skip


def test_same_seed_same_bytes_and_other_seeds_differ() -> None:
    first, again = (sample_clip("puppets", 3, 5, 48, 6) for _ in range(2))
    assert first.frames.tobytes() == again.frames.tobytes()
    assert first.name == again.name == "puppets-3-000005"
    assert first.meta == again.meta
    for track in first.tracks:
        assert first.tracks[track].tobytes() == again.tracks[track].tobytes()
    others = [sample_clip("puppets", 3, 6, 48, 6), sample_clip("puppets", 4, 5, 48, 6)]
    assert all(not np.array_equal(first.frames, other.frames) for other in others)


@pytest.mark.parametrize("action", ACTIONS)
def test_clip_has_the_promised_shapes_and_meta(action: str) -> None:
    clip = sample(np.random.default_rng(1), size=40, frames=5, action=action)
    assert clip.frames.shape == (5, 40, 40, 3)
    assert clip.fps == 25
    shapes = {name: (track.shape, track.dtype) for name, track in clip.tracks.items()}
    assert shapes == {
        "joints": ((5, 13, 3), np.float32), "box": ((5, 4), np.float32), "points": ((5, 2), np.float32),
        "mask": ((5, 40, 40), np.uint8), "flow_forward": ((4, 40, 40, 2), np.float16),
        "flow_backward": ((4, 40, 40, 2), np.float16),
    }  # fmt: skip
    assert set(np.unique(clip.tracks["mask"])) == {0, 255}
    assert clip.meta["action"] == action
    assert clip.meta["world"] == "puppets"
    assert json.loads(json.dumps(clip.meta))["description"]["scene"]["stature"] > 0


def test_a_longer_clip_begins_with_the_shorter_one() -> None:
    for seed, action in ((0, "walk"), (1, "run"), (2, "bend"), (3, "throw")):
        made = puppet(seed, action)
        short, long = render(made, 32, 2), render(made, 32, 9)
        assert np.array_equal(short[0], long[0][:2])
        assert np.array_equal(short[1]["flow_forward"], long[1]["flow_forward"][:1])


def share_on_person(tracks: dict[str, np.ndarray], joint: int) -> tuple[int, int]:
    """How many of a joint's visible places are foreground, and how many there are."""
    x, y, visible = np.moveaxis(tracks["joints"][:, joint], -1, 0)
    t = np.flatnonzero(visible)
    on = tracks["mask"][t, np.rint(y[t]).astype(int), np.rint(x[t]).astype(int)] == 255
    return int(on.sum()), len(t)


def test_bent_arms_are_drawn_along_their_bones() -> None:
    """Arms held away from the body lie where the joints say, whichever way the elbow is bent."""
    made = quiet(puppet(1, "wave2"))
    scene = replace(made.scene, stature=0.65, floor=0.93, x=0.5)
    for bend in (-1.2, 1.2):
        motion = replace(made.motion, low=1.5, high=1.6, bend_low=bend, bend_high=bend, style="forearm")
        tracks = render(replace(made, scene=scene, motion=motion), 96, 3)[1]
        for side in ("left", "right"):
            arm = [tracks["joints"][:, J[f"{side}_{name}"], :2] for name in ("shoulder", "elbow", "wrist")]
            # Elbow, wrist and the bones' middles: the hand hangs on the wrist even if the forearm does not.
            for spot in (arm[1], arm[2], 0.5 * (arm[0] + arm[1]), 0.5 * (arm[1] + arm[2])):
                x, y = np.rint(spot).astype(int).T
                assert (tracks["mask"][np.arange(3), y, x] == 255).all()


def test_visible_joints_lie_on_the_person() -> None:
    hits, total = 0, 0
    for index in range(15):
        clip = sample_clip("puppets", 11, index, 64, 8)
        for joint in range(len(JOINTS)):
            on, seen = share_on_person(dict(clip.tracks), joint)
            hits, total = hits + on, total + seen
    assert total > 800
    assert hits / total > 0.97


def test_joints_outside_the_picture_or_behind_the_body_are_not_visible() -> None:
    made = puppet(0, "wave2")
    cut = replace(made, scene=replace(made.scene, floor=1.3, stature=0.9))
    tracked = render(cut, 64, 2)[1]["joints"]
    ankles = tracked[:, [J["left_ankle"], J["right_ankle"]]]
    assert (ankles[..., 1] > 64).all()
    assert (ankles[..., 2] == 0).all()
    # Someone walking to the right turns the right side to us: the left shoulder is behind the chest.
    walker = puppet(1, "walk")
    right = replace(walker, scene=replace(walker.scene, facing=1))
    tracked = render(right, 64, 4)[1]["joints"]
    assert (tracked[:, J["left_shoulder"], 2] == 0).all()
    assert (tracked[:, J["right_shoulder"], 2] == 1).all()
    left = replace(walker, scene=replace(walker.scene, facing=-1))
    tracked = render(left, 64, 4)[1]["joints"]
    assert (tracked[:, J["left_shoulder"], 2] == 1).all()
    assert (tracked[:, J["right_shoulder"], 2] == 0).all()


def test_only_the_person_changes_pixels() -> None:
    for action in ("wave1", "jack", "bend"):
        video, tracks = render(quiet(puppet(2, action)), 64, 8)
        person = (tracks["mask"] > 0).any(0)
        # The mask is cut at half coverage: two more pixels all round can hold a finger tip.
        grown = np.pad(person, 2)
        near = sum(grown[dy : 64 + dy, dx : 64 + dx] for dy in range(5) for dx in range(5)) > 0
        changed = (np.ptp(video.astype(int), axis=0) > 0).any(-1)
        assert changed.any()
        assert not (changed & ~near).any()


def test_mask_is_where_the_person_hides_the_wall() -> None:
    made = quiet(puppet(3, "jack"))
    # A wall of pure blue and a person without any: blue says how much of the wall is seen.
    wall = Wall("plain", (0.0, 0.0, 1.0), (0.0, 0.0, 1.0), 0.2, 0.0, 0)
    scene = replace(made.scene, wall=wall, ground=None, tint=(1.0, 1.0, 1.0))
    red = replace(made.clothes.top, kind="plain", first=(0.8, 0.1, 0.0))
    clothes = replace(
        made.clothes, skin=(0.8, 0.5, 0.0), hair=(0.2, 0.1, 0.0), hair_style="short", top=red, bottom=red,
        inner=red, print="none", belt=None, socks=None, shoes=(0.5, 0.1, 0.0), soles=(0.5, 0.1, 0.0),
        gloves=None, beard=0.0,
    )  # fmt: skip
    video, tracks = render(replace(made, scene=scene, clothes=clothes), 64, 6)
    blue = video[..., 2] / 255
    mask = tracks["mask"] > 0
    # Dark eyes and mouth hold a trace of blue, hence not exactly one half.
    assert blue[mask].max() < 0.6
    assert blue[~mask].min() > 0.4
    t, y, x = np.nonzero(mask)
    for frame in range(6):
        expected = [x[t == frame].min(), y[t == frame].min(), x[t == frame].max(), y[t == frame].max()]
        assert tracks["box"][frame].tolist() == expected
        assert tracks["points"][frame].tolist() == [sum(expected[0::2]) / 2, sum(expected[1::2]) / 2]


@pytest.mark.parametrize("action", ACTIONS)
def test_bones_keep_their_length(action: str) -> None:
    for seed in SEEDS:
        made = puppet(seed, action)
        places = moving_joints(made, np.arange(0, 80, 1.7))
        lengths = [made.body.upper_arm, made.body.forearm, made.body.thigh, made.body.shin]
        for (near, far), length in zip(BONES, lengths, strict=True):
            for side in ("left", "right"):
                bone = places[:, J[f"{side}_{far}"]] - places[:, J[f"{side}_{near}"]]
                assert np.allclose(np.linalg.norm(bone, axis=-1), length, atol=1e-9)


@pytest.mark.parametrize("action", ACTIONS)
def test_motion_has_no_jumps(action: str) -> None:
    for seed in SEEDS:
        places = moving_joints(puppet(seed, action), np.arange(0, 90, 0.02))
        steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
        # The fastest joints: the wrist in a jack (an arm of 0.34 statures swings 3 radians in 11 frames, at most 2.0
        # times as fast as on average: 0.19 statures per frame; hop and elbow add a little) and a runner's ankle. It
        # comes forward more than twice as fast as the trunk, which makes 0.1 statures per frame at most.
        assert steps.max() < 0.02 * 0.25
        # And the speed itself changes gradually: in 0.02 frames by less than 5 % of the top speed, or of 0.05
        # statures per frame for slow actions.
        assert np.abs(np.diff(steps, axis=0)).max() < 0.05 * max(steps.max(), 0.02 * 0.05)


def wrist_paths(made: Puppet) -> np.ndarray:
    """The diagonal of the box around each wrist's way (left, right), in statures."""
    places = moving_joints(made, np.arange(0, 100.0))
    return np.linalg.norm(np.ptp(places[:, [J["left_wrist"], J["right_wrist"]]], axis=0), axis=-1)


def test_wave1_moves_one_wrist_and_wave2_both() -> None:
    moving = set()
    for seed in range(12):
        made = puppet(seed, "wave1")
        left, right = wrist_paths(made)
        assert max(left, right) > 0.1
        assert min(left, right) < 0.025
        moving.add("left" if left > right else "right")
        assert wrist_paths(puppet(seed, "wave2")).min() > 0.1
    assert moving == {"left", "right"}


def test_left_is_the_persons_own_left() -> None:
    places = moving_joints(puppet(0, "wave2"), np.arange(3.0))
    for name in ("shoulder", "wrist", "hip", "ankle"):
        assert (places[:, J[f"left_{name}"], 0] > places[:, J[f"right_{name}"], 0]).all()


def test_jack_opens_the_legs_while_the_arms_go_up_and_hops() -> None:
    for seed in SEEDS:
        made = puppet(seed, "jack")
        period = made.motion.clock.period
        times = np.linspace(0, 2 * period, 200)
        places = moving_joints(made, times)
        apart = places[:, J["left_ankle"], 0] - places[:, J["right_ankle"], 0]
        assert apart.min() < 0.2
        assert np.ptp(apart) > 0.1
        height = -places[:, J["left_wrist"], 1]
        assert np.corrcoef(apart, height)[0, 1] > 0.8
        soles = -places[:, [J["left_ankle"], J["right_ankle"]], 1].max(1) - made.body.ankle
        assert soles.max() > 0.01
        assert abs(soles.min()) < 0.005


def test_walking_ankles_alternate_against_the_arms() -> None:
    for seed in SEEDS:
        made = puppet(seed, "walk")
        period = made.motion.clock.period
        places = moving_joints(made, np.linspace(0, 4 * period, 400))
        ankles = places[:, J["left_ankle"], 0] - places[:, J["right_ankle"], 0]
        wrists = places[:, J["left_wrist"], 0] - places[:, J["right_wrist"], 0]
        # Each leg leads once per stride: two changes of leader, eight in four strides (give or take one).
        changes = int((np.diff(np.sign(ankles)) != 0).sum())
        assert changes in (7, 8, 9)
        assert np.corrcoef(ankles, wrists)[0, 1] < -0.5


def test_walking_goes_forward_with_a_foot_on_the_floor() -> None:
    for seed in SEEDS:
        made = puppet(seed, "walk")
        times = np.linspace(0, 60, 600)
        pose = ACTIONS["walk"].pose(made.motion, made.body, times)
        assert (np.diff(pose.x) > 0).all()
        figure = place(made.body, pose, "side")
        lowest = (sole_reach(made.body, pose, "side") + figure.pelvis[:, None])[..., 1].max(1)
        assert np.abs(lowest).max() < 0.01
        stride = walked(made.motion, made.body, np.array([1.0]))[0]
        assert 0.4 < stride < 1.1
        assert walked(made.motion, made.body, np.array([2.0]))[0] == pytest.approx(2 * stride)


def test_bend_brings_the_hands_down_and_keeps_the_feet() -> None:
    for seed in SEEDS:
        made = puppet(seed, "bend")
        places = moving_joints(made, np.linspace(0, 2 * made.motion.clock.period, 200))
        assert np.ptp(places[:, J["left_wrist"], 1]) > 0.12
        assert np.ptp(places[:, J["head"], 1]) > 0.2
        assert places[:, J["head"], 0].max() > 0.2
        middle = 0.5 * (places[:, J["left_ankle"]] + places[:, J["right_ankle"]])
        assert np.ptp(middle, axis=0).max() < 0.02


@pytest.mark.parametrize("action", ACTIONS)
def test_size_scales_joints_and_picture_alike(action: str) -> None:
    made = quiet(puppet(5, action))
    small_video, small = render(made, 64, 3)
    large_video, large = render(made, 128, 3)
    # Pixel centres are at integers: the left border of the picture is at -0.5 at every size.
    expected = (small["joints"][..., :2] + 0.5) * 2 - 0.5
    assert np.allclose(large["joints"][..., :2], expected, atol=1e-3)
    halved = large_video.reshape(3, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small_video).mean() < 4.0


def test_the_picture_moves_by_fractions_of_a_pixel() -> None:
    """A person who stands still before a shaking camera: the centre of light follows the shake exactly."""
    made = quiet(puppet(2, "wave2"))
    black = Wall("plain", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.2, 0.0, 0)
    camera = replace(made.scene.camera, shake=0.004)
    scene = replace(made.scene, wall=black, ground=None, stature=0.6, floor=0.92, x=0.5, camera=camera)
    wave = made.motion
    still = replace(wave, high=wave.low, bend_high=wave.bend_low, sway=0.0)
    standing = replace(made, scene=scene, motion=still)
    video, tracks = render(standing, 64, 16)
    light = video.astype(float).sum(-1)
    total = light.sum(axis=(1, 2))
    x = (light * np.arange(64)).sum(axis=(1, 2)) / total
    y = (light * np.arange(64)[:, None]).sum(axis=(1, 2)) / total
    shift = 64 * camera.offset(np.arange(16.0))
    assert 0.1 < np.ptp(shift, axis=0).max() < 1.0
    assert np.abs((x - x[0]) - (shift[:, 0] - shift[0, 0])).max() < 0.03
    assert np.abs((y - y[0]) - (shift[:, 1] - shift[0, 1])).max() < 0.03
    head = tracks["joints"][:, J["head"], :2]
    assert np.allclose(head - head[0], shift - shift[0], atol=1e-4)


def test_the_wall_moves_by_fractions_of_a_pixel() -> None:
    made = quiet(puppet(2, "wave2"))
    # Black at the top to white at the bottom: 255 / 64 levels per pixel, so brightness tells the shift.
    ramp = Wall("gradient", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.2, 0.0, 0)
    camera = replace(made.scene.camera, shake=0.005)
    scene = replace(made.scene, wall=ramp, ground=None, camera=camera, tint=(1.0, 1.0, 1.0))
    video, tracks = render(replace(made, scene=scene), 64, 12)
    wall = ~(tracks["mask"] > 0).any(0)
    wall[:4] = wall[-4:] = False  # beyond the ramp's ends it is flat
    wall[:, 8:-8] = False  # away from the person
    levels = video[:, wall].astype(float).mean(axis=(1, 2))
    shift = 64 * camera.offset(np.arange(12.0))[:, 1]
    assert np.ptp(shift) > 0.1
    assert np.abs((levels - levels[0]) + (shift - shift[0]) * 255 / 64).max() < 0.15


def test_a_camera_that_follows_moves_the_wall_instead_of_the_walker() -> None:
    made = puppet(1, "walk")
    camera = replace(made.scene.camera, shake=0.0, follow=True)
    staged = stage(replace(made, scene=replace(made.scene, camera=camera)), np.arange(30.0))
    pelvis = staged.project(staged.figure.pelvis[:, None], 64)[:, 0]
    assert np.ptp(pelvis[:, 0]) < 1e-6
    assert abs(staged.background[-1, 0]) > 0.3
    through = stage(replace(made, scene=replace(made.scene, camera=replace(camera, follow=False))), np.arange(300.0))
    pelvis = through.project(through.figure.pelvis[:, None], 1)[:, 0]
    # Crosses the picture but never leaves it, however long the clip: the span is 1 - 0.6 statures.
    assert np.ptp(pelvis[:, 0]) == pytest.approx(1 - 0.6 * made.scene.stature, abs=0.01)
    assert pelvis[-1, 0] + 0.5 - made.scene.x == pytest.approx(
        through.flip * (0.5 - 0.3 * made.scene.stature), abs=0.01
    )


# --- choosing actions -----------------------------------------------------------------------------------------------


def test_naming_all_actions_is_like_naming_none_and_naming_some_draws_from_these() -> None:
    free, named = (sample_clip("puppets", 2, 4, 16, 2, actions) for actions in (None, tuple(ACTIONS)))
    assert free.frames.tobytes() == named.frames.tobytes()
    drawn = {sample_clip("puppets", 2, index, 16, 1, ("jog", "throw")).meta["action"] for index in range(12)}
    assert drawn == {"jog", "throw"}


def test_a_data_set_of_some_actions(tmp_path: Path) -> None:
    made = [
        write_world("puppets", tmp_path / str(jobs), clips=2, size=16, frames=2, actions=("walk", "run"), jobs=jobs)
        for jobs in (1, 2)
    ]
    assert made[0] == made[1]
    assert made[0].settings["actions"] == ["walk", "run"]
    assert {clip.meta["action"] for clip in open_dataset(tmp_path / "1")} <= {"walk", "run"}
    with pytest.raises(StillmotionError, match="moonwalk"):
        write_world("puppets", tmp_path / "no", clips=1, actions=("walk", "moonwalk"))
    with pytest.raises(StillmotionError, match="leave the action out"):
        write_world("digits", tmp_path / "no", clips=1, actions=("walk",))


def test_bad_arguments_are_explained() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(StillmotionError, match="moonwalk"):
        sample(rng, action="moonwalk")
    for size in (0, 15, 5000):
        with pytest.raises(StillmotionError, match="size"):
            sample(rng, size=size)
    with pytest.raises(StillmotionError, match="at least 1 frame"):
        sample(rng, frames=0)
    with pytest.raises(StillmotionError, match="atlantis"):
        sample_clip("atlantis", 0, 0, 64, 4)
    with pytest.raises(StillmotionError, match="0 or more"):
        sample_clip("puppets", -1, 0, 64, 4)


def test_naming_the_worlds_imports_nothing_heavy() -> None:
    code = (
        "import sys, stillmotion.worlds as w; assert 'puppets' in w.WORLDS; "
        "print('cv2' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert set(WORLDS) >= {"puppets"}
