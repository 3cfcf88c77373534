"""The world `plants`: the dynamics, and every track against the pixels."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from refusals import refuses
from stillmotion.errors import StillmotionError
from stillmotion.worlds import sample_clip
from stillmotion.worlds.plants import ACTIONS, SPECIES, Plant, Poke, counterfactual, flow_between, physics, render
from stillmotion.worlds.plants.physics import (
    SpringParameters,
    build_dynamics,
    energy,
    invert,
    mass_matrix,
    node_paths,
)
from stillmotion.worlds.plants.plant import sample_description, simulate_poke
from stillmotion.worlds.plants.rasterization import build_outlines, rasterise_ids, segment_transforms
from stillmotion.worlds.plants.render import prepare_assets, render_motion, render_pair
from stillmotion.worlds.plants.species import TreeBuilder
from stillmotion.worlds.plants.styles import Style
from stillmotion.worlds.plants.tree import ancestors, chain_to, forward_kinematics
from test_worlds import dilate, warp

SEEDS = range(9)  # with these, every species comes up (held by a test)


@cache
def plant(seed: int, action: str | None = None) -> Plant:
    return sample_description(np.random.default_rng([4, seed]), action)


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
    made = physics.simulate(dyn, 30, 25.0, start=(np.array([0.3]), np.array([0.0])))
    w, z, time = 4 * np.pi, 0.06 + 0.04, np.arange(30) / 25  # q'' + 2 z w q' + w^2 q = 0
    damped = w * np.sqrt(1 - z**2)
    exact = 0.3 * np.exp(-z * w * time) * (np.cos(damped * time) + z * w / damped * np.sin(damped * time))
    # The rule's swing is slower by (w h)^2 / 12 = 0.03 %: 0.005 radians of phase after 1.2 seconds.
    assert np.abs(made.deflections[:, 0] - exact).max() < 0.005 * 0.3


def test_inertia_of_two_plates_by_hand() -> None:
    builder = TreeBuilder()
    builder.segment(-1, 0.0, 2.0, 1.0, 1.0, 0, weight=1.5)  # mass 3, along x from (0, 0) to (2, 0)
    builder.segment(0, 0.5 * np.pi, 1.0, 1.0, 1.0, 0, weight=5.0)  # mass 5, down to (2, 1); its middle is (2, 0.5)
    first, second = 3 * (4 + 4) / 12, 5 * (1 + 4) / 12  # m (l^2 + w^2) / 12 about their middles, both 2 wide
    alone = 5 * 0.25 + second
    expected = [[3 * 1 + first + 5 * (4 + 0.25) + second, alone], [alone, alone]]
    assert np.allclose(mass_matrix(builder.build(1.0, (7.0, -3.0))), expected)


def test_inertia_agrees_with_the_velocities_of_the_segments() -> None:
    """Half v M v is the sum of all masses' kinetic energies, with velocities by finite differences."""
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
    free = physics.simulate(dyn, 20, 100.0, start=(rng.normal(0, 0.3, count), rng.normal(0, 3.0, count)))
    energies = energy(dyn, free)
    assert (np.diff(energies) <= 1e-12 * energies[0]).all()
    assert energies[-1] < 0.9 * energies[0]
    # Nor does it after a plucked node was let go.
    plucked = replace(made, poke=Poke("pluck", made.poke.node, made.poke.displacement, rise=0.2, hold=0.0))
    energies = energy(dyn, simulate_poke(plucked, 25))
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
    """Eight times as many steps move no node, poked or not, by more than 4 % of the largest displacement."""
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
    made = plant(seed)
    still = replace(made, poke=replace(made.poke, displacement=(0.0, 0.0)))
    video, tracks = render(still, 32, 4)
    assert (video == video[0]).all()
    assert (tracks["path"] == tracks["path"][0]).all()
    assert not tracks["flow_forward"].any()
    assert not tracks["flow_backward"].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dragged_node_reaches_its_target_and_stays(seed: int) -> None:
    made = plant(seed, "drag")
    path = node_paths(made.tree, simulate_poke(made, 40))[:, made.poke.node]
    wanted = np.array(made.poke.displacement)
    # 0.5 s is the longest rise: before frame 17 the hand is at its target.
    assert np.abs(path[17:] - path[0] - wanted).max() < 0.01 * np.hypot(*wanted)
    assert np.abs(path[-1] - path[0] - wanted).max() < 0.002 * np.hypot(*wanted)


@pytest.mark.parametrize("kind", ["pluck", "push"])
@pytest.mark.parametrize("seed", range(3))
def test_plucked_and_pushed_nodes_return(kind: str, seed: int) -> None:
    made = plant(seed, kind)
    path = node_paths(made.tree, simulate_poke(made, 150))[:, made.poke.node]
    away = np.hypot(*(path - path[0]).T)
    assert away[:20].max() > 0.01
    assert away[-1] < 0.1 * away.max()


def test_hinges_stay_in_place_on_their_parents() -> None:
    """Leaves move with their branch: the hinge keeps its place along the parent for any motion of the parent."""
    made = plant(2)
    tree = made.tree
    deflections = np.random.default_rng(0).normal(0, 0.3, (3, len(tree)))
    hinges, directions = forward_kinematics(tree, deflections)
    for child, parent in enumerate(tree.parent):
        if parent < 0:
            assert np.allclose(hinges[:, child], tree.base[child])
            continue
        arrow = np.stack([np.cos(directions[:, parent]), np.sin(directions[:, parent])], -1)
        along = tree.attach[child] * tree.length[parent]
        assert np.allclose(hinges[:, child], hinges[:, parent] + along * arrow)
        turned = directions[:, child] - directions[:, parent] - deflections[:, child]
        assert np.allclose(turned, tree.angle[child])


def test_the_chain_to_a_node_gives_its_position_and_jacobian() -> None:
    tree, rng = plant(3).tree, np.random.default_rng(1)
    node = int(ancestors(tree).sum(0).argmax())
    chain, deflections, step = chain_to(tree, node), rng.normal(0, 0.3, len(tree)), 1e-6
    point, jacobian = chain.node(deflections[chain.joints])
    motion = physics.Motion(deflections[None], deflections[None])
    assert np.allclose(point, node_paths(tree, motion)[0, node])
    for k in range(len(chain.joints)):
        shift = np.zeros(len(chain.joints))
        shift[k] = step
        ahead, behind = (chain.node(deflections[chain.joints] + sign * shift)[0] for sign in (1, -1))
        assert np.allclose((ahead - behind) / (2 * step), jacobian[:, k], atol=1e-7)


# --- tracks --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("action", ACTIONS)
def test_meta_describes_both_pokes(action: str) -> None:
    clip = sample_clip("plants", 1, 0, 40, 5, action)
    assert clip.meta["species"] in SPECIES
    assert clip.meta["action"] == clip.meta["poke"]["kind"] == clip.meta["other_poke"]["kind"] == action
    assert np.allclose(clip.meta["poke"]["place"], clip.tracks["path"][0])
    assert np.allclose(clip.meta["other_poke"]["place"], clip.tracks["other_path"][0])


@pytest.mark.parametrize("seed", SEEDS)
def test_counterfactual_has_the_same_first_frame_and_another_motion(seed: int) -> None:
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
    # The two pokes differ: another node, or another direction.
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
            warped[name] += np.abs(warp(video[u], flow) - video[t]).mean(-1)[good].tolist()
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
    # Around it the segment is seen, and the flow from the first frame to the last is the node's displacement.
    x, y = np.rint(path[0]).astype(int)
    seen = tracks["parts"][0, y - 1 : y + 2, x - 1 : x + 2] == part
    assert seen.any()
    around = flow_between(tracks["parts"], tracks["moves"], 0, 10)[y - 1 : y + 2, x - 1 : x + 2][seen]
    assert np.abs(around - (path[10] - path[0])).max() < 2.0  # a pixel beside it turns with the segment
    assert np.allclose(flow_between(tracks["parts"], tracks["moves"], 3, 4), tracks["flow_forward"][3], atol=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_is_where_the_plant_hides_the_scene(seed: int) -> None:
    """A black plant on white: brightness is the visible share of the scene, to a ninth of a pixel."""
    made = plant(seed)
    made = replace(made, scene=replace(made.scene, tint=(1.0, 1.0, 1.0), softness=0.0))
    assets = prepare_assets(made, 48)
    assets = replace(assets, light=np.zeros_like(assets.light), background=np.ones_like(assets.background))
    video, parts, mask = render_motion(made, assets, simulate_poke(made, 3), 48)
    assert np.array_equal(video.max(-1) < 128, mask > 0)
    assert np.array_equal(mask, render(made, 48, 3)[1]["mask"])
    assert (video[parts > 0].max(-1) < 255).all()  # the part of a pixel is one that covers some of it
    assert (parts > 0).any()


def test_segments_are_drawn_where_they_are() -> None:
    """A flower's disc: its middle is the far end of its segment, to a tenth of a point (a thirtieth of a pixel)."""
    disc = Style("flower", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.7, 1.0, 0.0, 8, 0.3, 0)
    builder = TreeBuilder()
    builder.segment(-1, 0.7, 0.1, 0.01, 0.25, 0)
    for x, y in ((0.5, 0.5), (0.43, 0.52), (0.601, 0.377)):
        tree = builder.build(1.0, (x - 0.1 * np.cos(0.7), y - 0.1 * np.sin(0.7)))
        hinges, directions = forward_kinematics(tree, np.zeros((1, 1)))
        ids = rasterise_ids(build_outlines(tree, (disc,)), segment_transforms(hinges, directions, 96)[0], 96)
        middle = np.argwhere(ids > 0).mean(0)[::-1]
        assert np.abs(middle - (np.array([x, y]) * 96 - 0.5)).max() < 0.1


def test_only_the_plant_changes_pixels() -> None:
    for seed in range(4):
        video, tracks = render(replace(plant(seed), scene=replace(plant(seed).scene, softness=0.0)), 48, 6)
        near, thin = (dilate((tracks[name] > 0).any(0), 1) for name in ("mask", "parts"))
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
    lengths = [np.hypot(*plant(seed).poke.displacement) for seed in range(30)]
    assert min(lengths) >= 0.045  # 2.9 pixels of 64
    assert np.ptp(lengths) > 0.08


# --- arguments -----------------------------------------------------------------------------------------------------
def test_bad_pokes_are_explained() -> None:
    made = plant(0)
    for changed, said in (({"node": 999}, "nodes 0 to"), ({"displacement": (0.9, 0.3)}, "cannot be moved")):
        refuses(said, render, counterfactual(made, replace(made.poke, **changed)), 32, 2)
    refuses("frame rate", simulate_poke, made, 3, 0.0)
    for changed in ({"kind": "kick"}, {"displacement": (np.nan, 0.0)}, {"rise": 0.0}, {"hold": -1.0}):
        with pytest.raises(StillmotionError):
            replace(made.poke, **changed)
