"""The world `plants`: the physics keeps its promises, and every track tells the truth about its pixels."""

import json
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from stillmotion.errors import StillmotionError
from stillmotion.worlds import sample_clip
from stillmotion.worlds.plants import (
    ACTIONS,
    SPECIES,
    Plant,
    Poke,
    counterfactual,
    flow_between,
    physics,
    render,
    sample,
    sample_description,
    simulate_poke,
)
from stillmotion.worlds.plants.growth import TreeBuilder
from stillmotion.worlds.plants.physics import (
    SpringParameters,
    build_dynamics,
    energy,
    invert,
    mass_matrix,
    node_paths,
    simulate,
)
from stillmotion.worlds.plants.rasterization import build_outlines, rasterise_ids, segment_transforms
from stillmotion.worlds.plants.render import prepare_assets, render_motion, render_pair
from stillmotion.worlds.plants.styles import Style
from stillmotion.worlds.plants.tree import ancestors, chain_to, forward_kinematics

SEEDS = range(9)  # with these, every species comes up (held by a test)


@cache
def plant(seed: int, action: str | None = None) -> Plant:
    return sample_description(np.random.default_rng([4, seed]), action)


def still_poke(made: Plant) -> Plant:
    return replace(made, poke=replace(made.poke, displacement=(0.0, 0.0)))


def pixels(size: int) -> np.ndarray:
    """H x W x 2: every pixel's own (x, y)."""
    return np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(np.float32)


# --- physics -------------------------------------------------------------------------------------------------------


def test_the_seeds_show_all_species_and_actions() -> None:
    made = [plant(seed) for seed in SEEDS]
    assert {one.species for one in made} == set(SPECIES)
    assert {one.poke.kind for one in made} == set(ACTIONS)


def test_one_segment_swings_like_a_damped_oscillator() -> None:
    builder = TreeBuilder()
    builder.segment(-1, -1.0, 0.4, 0.01, 0.01, 0)
    springs = SpringParameters(2.0, 3.0, 0.06, 0.04, 0.5)
    dyn = build_dynamics(builder.build(1.0, (0.5, 0.7)), springs)
    made = simulate(dyn, 30, 25.0, start=(np.array([0.3]), np.array([0.0])))
    pulse, share, time = 4 * np.pi, 0.06 + 0.04, np.arange(30) / 25  # q'' + 2 z w q' + w^2 q = 0
    slower = pulse * np.sqrt(1 - share**2)
    exact = (
        0.3 * np.exp(-share * pulse * time) * (np.cos(slower * time) + share * pulse / slower * np.sin(slower * time))
    )
    # The rule's swing is slower by (w h)^2 / 12 = 0.03 %: 0.005 radians of phase after 1.2 seconds.
    assert np.abs(made.deflections[:, 0] - exact).max() < 0.005 * 0.3


def test_inertia_of_two_boards_as_worked_out_by_hand() -> None:
    builder = TreeBuilder()
    builder.segment(-1, 0.0, 2.0, 1.0, 1.0, 0, weight=1.5)  # mass 3, along x from (0, 0) to (2, 0)
    builder.segment(0, 0.5 * np.pi, 1.0, 1.0, 1.0, 0, weight=5.0)  # mass 5, down to (2, 1); its middle is (2, 0.5)
    first, second = 3 * (4 + 4) / 12, 5 * (1 + 4) / 12  # m (l^2 + w^2) / 12 about their middles, both 2 wide
    alone = 5 * 0.25 + second
    expected = [[3 * 1 + first + 5 * (4 + 0.25) + second, alone], [alone, alone]]
    assert np.allclose(mass_matrix(builder.build(1.0, (7.0, -3.0))), expected)


def test_inertia_agrees_with_the_speeds_of_the_segments() -> None:
    """Half v M v is the sum of all masses' kinetic energies, with speeds by finite differences."""
    tree, rng = plant(0).tree, np.random.default_rng(0)
    speeds, step = rng.normal(size=len(tree)), 1e-6
    hinges, directions = forward_kinematics(tree, np.stack([-step * speeds, step * speeds]))
    centres = hinges + 0.5 * tree.length[:, None] * np.stack([np.cos(directions), np.sin(directions)], -1)
    moving = ((np.diff(centres, axis=0)[0] / (2 * step)) ** 2).sum(-1)
    turning = (np.diff(directions, axis=0)[0] / (2 * step)) ** 2
    kinetic = 0.5 * (tree.mass * moving + physics.own_inertia(tree) * turning).sum()
    assert 0.5 * speeds @ mass_matrix(tree) @ speeds == pytest.approx(kinetic, rel=1e-6)


def test_inverse_is_the_inverse() -> None:
    made = plant(1)
    matrix = mass_matrix(made.tree) + np.diag(build_dynamics(made.tree, made.springs).stiffness)
    assert np.allclose(invert(matrix) @ matrix, np.eye(len(matrix)), atol=1e-7)


@pytest.mark.parametrize("seed", SEEDS)
def test_energy_of_a_free_plant_never_grows(seed: int) -> None:
    made, rng = plant(seed), np.random.default_rng(seed)
    dyn, count = build_dynamics(made.tree, made.springs), len(made.tree)
    free = simulate(dyn, 20, 100.0, start=(rng.normal(0, 0.3, count), rng.normal(0, 3.0, count)))
    energies = energy(dyn, free)
    assert (np.diff(energies) <= 1e-12 * energies[0]).all()
    assert energies[-1] < 0.9 * energies[0]
    # Nor does it after a plucked node was let go.
    plucked = replace(made, poke=Poke("pluck", made.poke.node, made.poke.displacement, rise=0.2, hold=0.0))
    swing = simulate_poke(plucked, 25)
    energies = energy(dyn, swing)
    assert energies[5] > 0
    assert (np.diff(energies[5:]) <= 1e-12 * energies[5]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_motion_does_not_depend_on_the_frame_rate(seed: int) -> None:
    made = plant(seed)
    node, size = made.poke.node, np.hypot(*made.poke.displacement)

    def path(frames: int, fps: float, every: int) -> np.ndarray:
        return node_paths(made.tree, simulate_poke(made, frames, fps))[::every, node]

    slow = path(21, 25.0, 5)  # every fifth of a second up to 0.8 s
    assert np.abs(path(41, 50.0, 10) - slow).max() < 1e-9  # the same steps, other frames
    # Other steps (1 / 210 s): within 3 % of the poke, as docs/worlds.md says.
    assert np.abs(path(25, 30.0, 6) - slow).max() < 0.03 * size


def test_steps_are_short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times as many steps move no node, poked or not, by more than 4 % of the largest way."""
    for seed in (0, 1, 2, 3):
        made = plant(seed)
        coarse = node_paths(made.tree, simulate_poke(made, 15))
        monkeypatch.setattr(physics, "LONGEST_STEP", 1 / 1600)
        fine = node_paths(made.tree, simulate_poke(made, 15))
        monkeypatch.undo()
        largest = np.hypot(*np.moveaxis(fine - fine[0], -1, 0)).max()
        assert np.abs(coarse - fine).max() < 0.04 * largest


@pytest.mark.parametrize("seed", SEEDS)
def test_the_root_is_stiffest_and_nothing_gets_stiffer_outwards(seed: int) -> None:
    made = plant(seed)
    stiffness = build_dynamics(made.tree, made.springs).stiffness
    child = np.flatnonzero(made.tree.parent >= 0)
    assert (stiffness[child] < stiffness[made.tree.parent[child]]).all()
    assert (stiffness > 0).all()
    roots = np.flatnonzero(made.tree.parent < 0)
    assert stiffness.argmax() in roots


@pytest.mark.parametrize("seed", SEEDS)
def test_a_poke_of_nothing_moves_nothing(seed: int) -> None:
    video, tracks = render(still_poke(plant(seed)), 32, 4)
    assert (video == video[0]).all()
    assert (tracks["path"] == tracks["path"][0]).all()
    assert not tracks["flow_forward"].any()
    assert not tracks["flow_backward"].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dragged_node_reaches_its_target_and_stays(seed: int) -> None:
    made = plant(seed, "drag")
    path = node_paths(made.tree, simulate_poke(made, 40))[:, made.poke.node]
    wanted = np.array(made.poke.displacement)
    # 0.5 s is the longest rise: from frame 17 on the hand has been there for a while.
    assert np.abs(path[17:] - path[0] - wanted).max() < 0.01 * np.hypot(*wanted)
    assert np.abs(path[-1] - path[0] - wanted).max() < 0.002 * np.hypot(*wanted)


def test_a_plucked_node_comes_home_and_a_push_ends() -> None:
    for kind in ("pluck", "push"):
        for seed in (0, 1, 2):
            made = plant(seed, kind)
            path = node_paths(made.tree, simulate_poke(made, 150))[:, made.poke.node]
            away = np.hypot(*(path - path[0]).T)
            assert away[:20].max() > 0.01
            assert away[-1] < 0.1 * away.max()


def test_segments_keep_their_place_on_their_parents() -> None:
    """Leaves move with their branch: the hinge stays where it is along the parent, however the parent moves."""
    made = plant(2)
    tree = made.tree
    bends = np.random.default_rng(0).normal(0, 0.3, (3, len(tree)))
    hinges, directions = forward_kinematics(tree, bends)
    for child, parent in enumerate(tree.parent):
        if parent < 0:
            assert np.allclose(hinges[:, child], tree.base[child])
            continue
        arrow = np.stack([np.cos(directions[:, parent]), np.sin(directions[:, parent])], -1)
        along = tree.attach[child] * tree.length[parent]
        assert np.allclose(hinges[:, child], hinges[:, parent] + along * arrow)
        turned = directions[:, child] - directions[:, parent] - bends[:, child]
        assert np.allclose(turned, tree.angle[child])


def test_the_way_to_a_node_knows_its_place_and_its_jacobian() -> None:
    tree, rng = plant(3).tree, np.random.default_rng(1)
    node = int(ancestors(tree).sum(0).argmax())
    way, bends, step = chain_to(tree, node), rng.normal(0, 0.3, len(tree)), 1e-6
    point, jacobian = way.node(bends[way.joints])
    motion = physics.Motion(bends[None], bends[None])
    assert np.allclose(point, node_paths(tree, motion)[0, node])
    for k in range(len(way.joints)):
        shift = np.zeros(len(way.joints))
        shift[k] = step
        ahead, behind = (way.node(bends[way.joints] + sign * shift)[0] for sign in (1, -1))
        assert np.allclose((ahead - behind) / (2 * step), jacobian[:, k], atol=1e-7)


# --- tracks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
def test_clip_has_the_promised_shapes_and_meta(action: str) -> None:
    clip = sample(np.random.default_rng(1), size=40, frames=5, action=action)
    parts = int(clip.tracks["moves"].shape[1])
    assert clip.frames.shape == (5, 40, 40, 3)
    assert clip.fps == 25
    shapes = {name: (track.shape, track.dtype) for name, track in clip.tracks.items()}
    assert shapes == {
        "flow_forward": ((4, 40, 40, 2), np.float16), "flow_backward": ((4, 40, 40, 2), np.float16),
        "mask": ((5, 40, 40), np.uint8), "path": ((5, 2), np.float32), "parts": ((5, 40, 40), np.uint8),
        "moves": ((5, parts, 2, 3), np.float32), "other_frames": ((5, 40, 40, 3), np.uint8),
        "other_path": ((5, 2), np.float32),
    }  # fmt: skip
    assert set(np.unique(clip.tracks["mask"])) == {0, 255}
    meta = json.loads(json.dumps(clip.meta))
    assert meta["world"] == "plants"
    assert meta["species"] in SPECIES
    assert meta["action"] == meta["poke"]["kind"] == meta["other_poke"]["kind"] == action
    assert np.allclose(meta["poke"]["place"], clip.tracks["path"][0])
    assert np.allclose(meta["other_poke"]["place"], clip.tracks["other_path"][0])


def test_same_seed_same_bytes_and_other_seeds_differ() -> None:
    first, again = (sample_clip("plants", 3, 5, 32, 4) for _ in range(2))
    assert first.frames.tobytes() == again.frames.tobytes()
    assert first.name == again.name == "plants-3-000005"
    assert first.meta == again.meta
    for track in first.tracks:
        assert first.tracks[track].tobytes() == again.tracks[track].tobytes()
    assert not np.array_equal(first.frames, sample_clip("plants", 3, 6, 32, 4).frames)


def test_a_longer_clip_begins_with_the_shorter_one() -> None:
    made = plant(4)
    assert np.array_equal(render(made, 32, 3)[0], render(made, 32, 7)[0][:3])
    assert render(made, 32, 1)[1]["flow_forward"].shape == (0, 32, 32, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_counterfactual_has_the_same_first_frame_and_another_answer(seed: int) -> None:
    made = plant(seed)
    clip_frames, tracks = render_pair(made, 40, 8)
    other = counterfactual(made)
    assert other.poke == made.other
    assert (counterfactual(other).poke, counterfactual(other).other) == (made.poke, made.other)
    frames, other_tracks = render(other, 40, 8)
    assert np.array_equal(frames, tracks["other_frames"])
    assert np.array_equal(other_tracks["path"], tracks["other_path"])
    assert np.array_equal(frames[0], clip_frames[0])
    moved = np.abs(frames[-1].astype(int) - clip_frames[-1]).max(-1) > 25
    assert moved.sum() >= 5
    # The two pokes are two: another node, or another way to go.
    if made.poke.node == made.other.node:
        first, second = np.array(made.poke.displacement), np.array(made.other.displacement)
        assert first @ second <= 0.5001 * np.hypot(*first) * np.hypot(*second)


def test_any_poke_can_be_asked_for() -> None:
    made = plant(0, "drag")
    half = tuple(0.5 * value for value in made.poke.displacement)
    asked = counterfactual(made, replace(made.poke, displacement=half))
    path = node_paths(asked.tree, simulate_poke(asked, 30))[:, asked.poke.node]
    assert np.allclose(path[-1] - path[0], half, atol=2e-3)


def seen_inside(parts: np.ndarray, t: int, u: int, places: np.ndarray) -> np.ndarray:
    """Pixels of frame t whose 3 x 3 neighbours belong to the same part, there and at their `places` in frame u."""
    size = parts.shape[1]
    near = np.rint(places).astype(int)
    good = ((near >= 1) & (near < size - 1)).all(-1)
    near = np.clip(near, 1, size - 2)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            good &= np.roll(parts[t], (dy, dx), (0, 1)) == parts[t]
            good &= parts[u][near[..., 1] + dy, near[..., 0] + dx] == parts[t]
    good[[0, -1]] = good[:, [0, -1]] = False
    return good


def test_warping_by_the_flow_reproduces_the_neighbouring_frame() -> None:
    """Inside parts that are seen in both frames: a mean error of 3 grey levels where the pictures differ by 20."""
    warped, unmoved = {"flow_forward": [], "flow_backward": []}, []  # type: dict[str, list], list
    for seed in range(16):
        video, tracks = render(plant(seed), 64, 7)
        for name, t, u in (("flow_forward", 4, 5), ("flow_backward", 5, 4)):
            flow = tracks[name][4].astype(np.float32)
            places = pixels(64) + flow
            good = seen_inside(tracks["parts"], t, u, places) & (np.hypot(flow[..., 0], flow[..., 1]) > 0.3)
            back = cv2.remap(video[u].astype(np.float32), places[..., 0], places[..., 1], cv2.INTER_LINEAR)
            warped[name] += np.abs(back - video[t]).mean(-1)[good].tolist()
            unmoved += np.abs(video[u].astype(float) - video[t]).mean(-1)[good].tolist()
    for errors in warped.values():
        assert len(errors) > 150
        assert np.mean(errors) < 3
        assert np.percentile(errors, 95) < 8
    assert np.mean(unmoved) > 12


@pytest.mark.parametrize("seed", SEEDS)
def test_flow_is_the_motion_of_the_part_seen(seed: int) -> None:
    """From a frame back to the plant at rest, and from there to the other frame."""
    tracks = render(plant(seed), 48, 6)[1]
    parts, moves = tracks["parts"], tracks["moves"].astype(float)
    for name, k, t, u in (("flow_forward", 0, 0, 1), ("flow_forward", 4, 4, 5), ("flow_backward", 4, 5, 4)):
        flow, part = tracks[name][k].astype(float), parts[t]
        rest = np.einsum("hwij,hwj->hwi", np.linalg.inv(moves[t][part][..., :2]), pixels(48) - moves[t][part][..., 2])
        exact = np.einsum("hwij,hwj->hwi", moves[u][part][..., :2], rest) + moves[u][part][..., 2]
        assert np.abs(pixels(48) + flow - exact).max() < 0.01  # float16 holds 8 pixels to 0.004
        assert not flow[part == 0].any()
        assert t == 0 or flow.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_path_and_flow_follow_the_poked_node(seed: int) -> None:
    made = plant(seed)
    tracks = render(made, 64, 11)[1]
    path, part = tracks["path"], made.poke.node + 1
    # The node is a fixed point of its segment.
    moved = np.einsum("tij,j->ti", tracks["moves"][:, part, :, :2], path[0]) + tracks["moves"][:, part, :, 2]
    assert np.abs(moved - path).max() < 1e-3
    # Around it the segment is seen, and the flow from the first frame to the last is the node's way.
    x, y = np.rint(path[0]).astype(int)
    seen = tracks["parts"][0, y - 1 : y + 2, x - 1 : x + 2] == part
    assert seen.any()
    around = flow_between(tracks["parts"], tracks["moves"], 0, 10)[y - 1 : y + 2, x - 1 : x + 2][seen]
    assert np.abs(around - (path[10] - path[0])).max() < 2.0  # a pixel beside it turns with the segment
    assert np.allclose(flow_between(tracks["parts"], tracks["moves"], 3, 4), tracks["flow_forward"][3], atol=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_is_where_the_plant_hides_the_scene(seed: int) -> None:
    """A black plant before white: brightness says how much of the scene is seen, to a ninth of a pixel."""
    made = plant(seed)
    made = replace(made, scene=replace(made.scene, tint=(1.0, 1.0, 1.0), softness=0.0))
    paints = prepare_assets(made, 48)
    bare = replace(paints, light=np.zeros_like(paints.light), background=np.ones_like(paints.background))
    video, parts, mask = render_motion(made, bare, simulate_poke(made, 3), 48)
    assert np.array_equal(video.max(-1) < 128, mask > 0)
    assert np.array_equal(mask, render(made, 48, 3)[1]["mask"])
    assert (video[parts > 0].max(-1) < 255).all()  # the part of a pixel is one that covers some of it
    assert (parts > 0).any()


def test_segments_are_drawn_where_they_are() -> None:
    """A flower's disc: its middle is the far end of its segment, to a tenth of a point (a thirtieth of a pixel)."""
    disc = Style("flower", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.7, 1.0, 0.0, 8, 0.3, 0)
    for x, y in ((0.5, 0.5), (0.43, 0.52), (0.601, 0.377)):
        builder = TreeBuilder()
        builder.segment(-1, 0.7, 0.1, 0.01, 0.25, 0)
        tree = builder.build(1.0, (x - 0.1 * np.cos(0.7), y - 0.1 * np.sin(0.7)))
        hinges, directions = forward_kinematics(tree, np.zeros((1, 1)))
        ids = rasterise_ids(build_outlines(tree, (disc,)), segment_transforms(hinges, directions, 96)[0], 96)
        middle = np.argwhere(ids > 0).mean(0)[::-1]
        assert np.abs(middle - (np.array([x, y]) * 96 - 0.5)).max() < 0.1


def test_only_the_plant_changes_pixels() -> None:
    for seed in range(4):
        video, tracks = render(replace(plant(seed), scene=replace(plant(seed).scene, softness=0.0)), 48, 6)
        near = cv2.dilate((tracks["mask"] > 0).any(0).astype(np.uint8), np.ones((3, 3))) > 0
        thin = cv2.dilate((tracks["parts"] > 0).any(0).astype(np.uint8), np.ones((3, 3))) > 0
        changed = np.ptp(video.astype(int), axis=0).max(-1) > 12
        assert changed.any()
        assert (changed & ~near & ~thin).mean() < 0.01


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_size_scales_picture_path_and_flow_alike(seed: int) -> None:
    made = plant(seed)
    scene = replace(made.scene, softness=0.0, haze=0.0, wall=replace(made.scene.wall, kind="gradient"))
    made = replace(made, scene=scene)
    small_video, small = render(made, 48, 4)
    large_video, large = render(made, 96, 4)
    assert np.allclose(large["path"], (small["path"] + 0.5) * 2 - 0.5, atol=1e-3)
    halved = large_video.reshape(4, 48, 2, 48, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small_video).mean() < 4
    assert np.abs(large["mask"].mean() - small["mask"].mean()) < 4


def test_poked_nodes_move_far_enough_to_be_seen() -> None:
    shares = []
    for seed in range(30):
        made = plant(seed)
        shares.append(np.hypot(*made.poke.displacement))
        assert np.hypot(*made.poke.displacement) >= 0.045  # 2.9 pixels of 64
    assert np.ptp(shares) > 0.08


# --- arguments -----------------------------------------------------------------------------------------------------


def test_bad_arguments_are_explained() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(StillmotionError, match="shake"):
        sample(rng, action="shake")
    for size in (0, 15, 5000):
        with pytest.raises(StillmotionError, match="size"):
            sample(rng, size=size)
    with pytest.raises(StillmotionError, match="at least 1 frame"):
        sample(rng, frames=0)
    made = plant(0)
    for poke, said in (
        (replace(made.poke, node=999), "nodes 0 to"),
        (replace(made.poke, displacement=(0.9, 0.3)), "cannot be moved"),
    ):
        with pytest.raises(StillmotionError, match=said):
            render(counterfactual(made, poke), 32, 2)
    with pytest.raises(StillmotionError, match="frame rate"):
        simulate_poke(made, 3, 0.0)
    for changed in ({"kind": "kick"}, {"displacement": (np.nan, 0.0)}, {"rise": 0.0}, {"hold": -1.0}):
        with pytest.raises(StillmotionError):
            replace(made.poke, **changed)
