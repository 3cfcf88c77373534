"""Properties of every world over random seeds (hypothesis)."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillmotion.data.part_flow import flow_between, flow_tracks
from stillmotion.errors import StillmotionError
from stillmotion.worlds import WORLDS, sample_clip
from stillmotion.worlds.plants import sample_description, simulate_poke
from stillmotion.worlds.plants.physics import build_dynamics, energy, simulate
from test_worlds import warp

SEED = st.integers(0, 2**31)
some = settings(max_examples=5, deadline=None)


@pytest.mark.parametrize("world", sorted(WORLDS))
@some
@given(seed=SEED, size=st.integers(16, 40))
def test_the_same_seed_gives_the_same_finite_clip(world: str, seed: int, size: int) -> None:
    clip, again = (sample_clip(world, seed, seed % 7, size, 3) for _ in range(2))
    assert clip.frames.shape == (3, size, size, 3)
    assert clip.frames.tobytes() == again.frames.tobytes()
    assert clip.frames.std() > 1
    assert list(clip.tracks) == list(again.tracks)
    for name, track in clip.tracks.items():
        assert track.tobytes() == again.tracks[name].tobytes()
        assert len(track) == (2 if name.startswith("flow_") else 3)
        if name != "box":  # NaN where nothing of the person is seen
            assert np.isfinite(np.asarray(track, float)).all()
    assert clip.meta == again.meta


@pytest.mark.parametrize("world", ["arm", "digits", "plants", "puppets"])
@some
@given(seed=SEED)
def test_forward_and_backward_flow_cancel(world: str, seed: int) -> None:
    """At nearly every pixel: except those hidden in the other frame or at the border of two parts."""
    tracks = sample_clip(world, seed, 0, 48, 3).tracks
    y, x = np.mgrid[:48, :48].astype(np.float32)
    for t in range(2):
        forward, backward = (np.asarray(tracks[name][t], np.float32) for name in ("flow_forward", "flow_backward"))
        back = warp(backward, forward, cv2.INTER_NEAREST)
        at = np.stack([x, y], -1) + forward
        kernel = np.ones((3, 3))
        edges = np.max([cv2.dilate(b, kernel) - cv2.erode(b, kernel) for b in np.moveaxis(backward, -1, 0)], 0)
        meets = warp(edges, forward, cv2.INTER_NEAREST) > 0.3
        alike = np.abs(forward + back).max(-1) < 0.35
        inside = ((at >= 0) & (at <= 47)).all(-1)
        assert (alike | meets)[inside].mean() > 0.9


@some
@given(seed=SEED)
def test_normal_maps_are_unit_vectors_or_zero(seed: int) -> None:
    maps = np.asarray(sample_clip("faces", seed, 1, 40, 2).tracks["normals"], float)
    length = np.linalg.norm(maps, axis=-1)
    assert ((length == 0) | (np.abs(length - 1) < 2e-3)).all()
    assert (length > 0).mean() > 0.05


@some
@given(seed=SEED, push=st.floats(0.1, 6.0))
def test_the_energy_of_a_free_plant_never_grows(seed: int, push: float) -> None:
    plant, rng = sample_description(np.random.default_rng(seed)), np.random.default_rng(seed + 1)
    dyn, count = build_dynamics(plant.tree, plant.springs), len(plant.tree)
    free = simulate(dyn, 15, 60.0, start=(rng.normal(0, 0.3, count), rng.normal(0, push, count)))
    energies = energy(dyn, free)
    assert energies[0] > 0
    assert (np.diff(energies) <= 1e-12 * energies[0]).all()


@some
@given(seed=SEED)
def test_a_plants_motion_does_not_depend_on_the_frame_rate(seed: int) -> None:
    plant = sample_description(np.random.default_rng(seed))
    slow, fast = simulate_poke(plant, 9, 25.0).deflections, simulate_poke(plant, 17, 50.0).deflections[::2]
    assert np.abs(slow - fast).max() < 1e-9  # the same steps, other frames


@some
@given(seed=SEED)
def test_visible_joints_are_on_the_person(seed: int) -> None:
    tracks = sample_clip("puppets", seed, 2, 96, 2).tracks
    joints, near = tracks["joints"], cv2.dilate(np.moveaxis(tracks["mask"], 0, -1), np.ones((3, 3)))
    for t in range(2):
        seen = joints[t, joints[t, :, 2] > 0, :2]
        x, y = np.clip(np.rint(seen), 0, 95).astype(int).T
        assert (near[y, x, t] > 0).mean() > 0.9 or len(seen) < 4  # single ones are at a wrist's edge


@some
@given(seed=SEED)
def test_flow_of_a_rotating_part_by_hand(seed: int) -> None:
    """A part rotates by 90 degrees about (3, 2) and moves by (1, 5): x' = 3 - (y - 2) + 1, y' = 2 + (x - 3) + 5."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (2, 6, 7)).astype(np.uint8)
    start = np.array([[2.0, 0.3, 1.0], [-0.4, 1.5, 2.0]])  # any map of the part's own coordinates to pixels
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    end = np.concatenate([turn @ start[:, :2], (turn @ (start[:, 2] - [3, 2]) + [4, 7])[:, None]], 1)
    still = np.eye(2, 3)
    maps = np.stack([np.stack([still, start]), np.stack([np.array([[1, 0, 0.5], [0, 1, 0]]), end])])
    y, x = np.mgrid[:6, :7]
    expected = np.stack([3 - (y - 2) + 1 - x, 2 + (x - 3) + 5 - y], -1).astype(float)
    expected[labels[0] == 0] = (0.5, 0)
    assert np.allclose(flow_between(labels, maps, 0, 1), expected, atol=1e-5)
    assert np.allclose(flow_tracks(labels, maps)["flow_forward"][0], expected, atol=0.01)
    assert np.allclose(flow_between(labels, maps, 0, 0), 0, atol=1e-6)


@pytest.mark.parametrize("world", sorted(WORLDS))
@some
@given(size=st.integers(-5, 15) | st.integers(1025, 10**9), frames=st.integers(-5, 0))
def test_bad_arguments_raise_one_sentence(world: str, size: int, frames: int) -> None:
    for arguments in ({"size": size}, {"frames": frames}, {"action": "no such thing"}):
        with pytest.raises(StillmotionError, match=r"^[A-Z].*\.$"):
            sample_clip(world, 0, 0, **{"size": 32, "frames": 1, **arguments})
