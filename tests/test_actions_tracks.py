"""Ours: keypoint tracks and the rectified flow that generates them."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillmotion.keypoints.networks import Keypoints
from stillmotion.systems.actions.config import TrackConfig
from stillmotion.systems.actions.tracks import (
    LEAST_DEVIATION,
    LEAST_SIZE,
    SHAPE_SCALE,
    Condition,
    TrackFlow,
    body,
    covariance_of,
    describe,
    from_track,
    shape_of,
    sinusoids,
    smooth,
    to_track,
)

K, T, ACTIONS, SIDES = 3, 6, 2, 2
SMALL = TrackConfig(smoothing=0.0, width=16, blocks=1, heads=2, known=3, steps=3, guidance=1.5)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussians(*shape: int, seed: int = 0) -> Tensor:
    """Covariances, ... x 2 x 2, with deviations from 0.05 to 0.4."""
    turn, wide = numbers(*shape, seed=seed), 0.05 + 0.35 * torch.sigmoid(numbers(*shape, 2, seed=seed + 1))
    rows = torch.stack([turn.cos(), -turn.sin()], -1), torch.stack([turn.sin(), turn.cos()], -1)
    axes = torch.stack(rows, -2)
    return axes @ torch.diag_embed(wide.square()) @ axes.mT


def poses(n: int = 2, frames: int | None = T, seed: int = 0) -> Keypoints:
    shape = (n, K) if frames is None else (n, frames, K)
    return Keypoints(0.4 * numbers(*shape, 2, seed=seed), gaussians(*shape, seed=seed + 7))


def flow(seed: int = 0, **changes: Any) -> TrackFlow:
    """A flow whose velocities are not zero, and whose units are not one."""
    torch.manual_seed(seed)
    network = TrackFlow(K, ACTIONS, SIDES, TrackConfig(**{**vars(SMALL), **changes})).eval()
    with torch.no_grad():
        network.head.weight.normal_(0, 0.3)
        network.scale.copy_(torch.linspace(0.5, 2, 5 * K))
    return network


def condition(known: Tensor, given: int = 1, action: int = 0, side: int = 0) -> Condition:
    n = len(known)
    first = Keypoints(*(part.float() for part in poses(n, None)))
    return Condition(first, *(torch.full((n,), value) for value in (action, side)), known, torch.full((n,), given))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- tracks and back -----------------------------------------------------------------------------------------------
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_track_and_its_keypoints_are_inverse(seed: int) -> None:
    window, first = poses(seed=seed), poses(frames=None, seed=seed + 3)
    back = from_track(to_track(window, first), first)
    torch.testing.assert_close(back.mean, window.mean)
    torch.testing.assert_close(back.covariance, window.covariance)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3.5, -0.1), min_size=2, max_size=2), st.floats(-4, 4))
def test_shapes_and_covariances_are_inverse(logarithms: list[float], lean: float) -> None:
    shape = torch.tensor([[*logarithms, lean]], dtype=torch.float64)
    covariance = covariance_of(shape)
    torch.testing.assert_close(covariance, covariance.mT)
    assert torch.linalg.eigvalsh(covariance).min() > 0
    torch.testing.assert_close(shape_of(covariance), shape)


def test_a_shape_is_the_cholesky_factor() -> None:
    covariance = gaussians(5)
    factor = torch.linalg.cholesky(covariance)
    a, b, c = factor[:, 0, 0], factor[:, 1, 0], factor[:, 1, 1]
    torch.testing.assert_close(shape_of(covariance), torch.stack([a.log(), c.log(), b / a], -1))


def test_gaussians_have_a_least_width_and_bounded_lean() -> None:
    narrow = covariance_of(torch.tensor([[-9.0, -9.0, 0.0]]))
    torch.testing.assert_close(narrow, LEAST_DEVIATION**2 * torch.eye(2)[None])
    assert torch.isfinite(shape_of(torch.zeros(1, 2, 2))).all()
    wide = covariance_of(torch.tensor([[5.0, 5.0, 100.0]]))
    torch.testing.assert_close(wide[0], torch.tensor([[1.0, 4.0], [4.0, 17.0]]))


def test_place_and_size_of_the_figure_do_not_matter() -> None:
    """The same figure larger and elsewhere has the same places in its track, and shapes that differ by nothing."""
    window, first = poses(), poses(frames=None, seed=3)
    factor, shift = 0.6, torch.tensor([0.3, -0.2], dtype=torch.float64)

    def moved(pose: Keypoints) -> Keypoints:
        return Keypoints(factor * pose.mean + shift, factor**2 * pose.covariance)

    torch.testing.assert_close(to_track(moved(window), moved(first)), to_track(window, first))


def test_a_track_counts_in_sizes_of_the_body() -> None:
    first = Keypoints(torch.tensor([[[-0.3, 0.0], [0.3, 0.0], [0.0, 0.0]]]), (0.01 * torch.eye(2)).expand(1, K, 2, 2))
    centre, size = body(first.mean)
    assert centre.flatten().tolist() == [0, 0]
    assert size.item() == pytest.approx(math.sqrt(2 * 0.09 / 3))
    window = Keypoints(first.mean[:, None] + torch.tensor([size.item(), 0.0]), 4 * first.covariance[:, None])
    track = to_track(window, first)
    torch.testing.assert_close(track[0, 0, : 2 * K].view(K, 2), torch.tensor([[1.0, 0.0]]).expand(K, 2))
    shapes = SHAPE_SCALE * torch.tensor([[math.log(2), math.log(2), 0.0]])
    torch.testing.assert_close(track[0, 0, 2 * K :].view(K, 3), shapes.expand(K, 3))
    assert body(torch.zeros(1, K, 2))[1].item() == pytest.approx(LEAST_SIZE)


def test_a_pose_is_told_with_its_place_and_size() -> None:
    first = poses(frames=None)
    here = describe(first)
    assert here.shape == (2, 5 * K + 3)
    moved = describe(Keypoints(first.mean + 0.25, first.covariance))
    torch.testing.assert_close(moved[:, : 5 * K], here[:, : 5 * K])
    torch.testing.assert_close(
        moved[:, 5 * K : 5 * K + 2] - here[:, 5 * K : 5 * K + 2], torch.full((2, 2), 0.25).double()
    )
    larger = describe(Keypoints(2 * first.mean, first.covariance))
    torch.testing.assert_close(larger[:, -1] - here[:, -1], torch.full((2,), math.log(2)).double())


def test_sinusoids_tell_moments_apart() -> None:
    made = sinusoids(torch.tensor([0.0, 1.0]), 5)
    assert made.shape == (2, 5)
    torch.testing.assert_close(made[0], torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(made[1, :4], torch.tensor([1.0, 0.01, 1.0, 0.01]).sin().where(
        torch.tensor([True, True, False, False]), torch.tensor([1.0, 0.01, 1.0, 0.01]).cos()))  # fmt: skip


# --- generating ----------------------------------------------------------------------------------------------------
def test_known_frames_stay_and_the_others_are_new() -> None:
    known = numbers(2, T, 5 * K).float()
    for count in (1, 3):
        made = flow().sample(condition(known, count), generator())
        torch.testing.assert_close(made[:, :count], known[:, :count])
        assert (made[:, count:] - known[:, count:]).abs().amin(-1).min() > 0


def test_frames_that_are_not_known_are_not_read() -> None:
    known = numbers(2, T, 5 * K).float()
    other = torch.cat([known[:, :2], 9 + known[:, 2:]], dim=1)
    made = [flow().sample(condition(each, 2), generator()) for each in (known, other)]
    torch.testing.assert_close(*made)
    changed = flow().sample(condition(known + torch.eye(T)[1][:, None], 2), generator())
    assert (changed[:, 2:] - made[0][:, 2:]).abs().max() > 1e-3


def test_the_same_generator_gives_the_same_track_and_another_seed_another() -> None:
    asked = condition(torch.zeros(2, T, 5 * K))
    first = flow().sample(asked, generator(4))
    assert torch.equal(first, flow().sample(asked, generator(4)))
    assert (first - flow().sample(asked, generator(5)))[:, 1:].abs().mean() > 0.1


@pytest.mark.parametrize("changes", [{"action": 1}, {"side": 1}])
def test_the_action_and_the_side_count(changes: dict[str, int]) -> None:
    known = torch.zeros(2, T, 5 * K)
    one, other = (flow().sample(condition(known, **given), generator()) for given in ({}, changes))
    assert (one - other)[:, 1:].abs().mean() > 1e-3


def test_a_guidance_of_one_is_the_plain_flow_and_more_goes_beyond() -> None:
    """With one step from noise the result is linear in the guidance."""
    asked, none = condition(torch.zeros(2, T, 5 * K)), condition(torch.zeros(2, T, 5 * K), action=ACTIONS)
    made = {value: flow(steps=1, guidance=value).sample(asked, generator()) for value in (1.0, 3.0)}
    network = flow(steps=1, guidance=1.0)
    noise = torch.randn(2, T, 5 * K, generator=generator())
    velocity = network(noise, torch.zeros(2), asked)
    torch.testing.assert_close(made[1.0][:, 1:], ((noise + velocity) * network.scale)[:, 1:].detach())
    without = network.sample(none, generator())
    torch.testing.assert_close(made[3.0][:, 1:], (without + 3 * (made[1.0] - without))[:, 1:])


def test_a_fresh_flow_has_no_velocity() -> None:
    network = TrackFlow(K, ACTIONS, SIDES, SMALL).eval()
    track = numbers(2, T, 5 * K).float()
    assert not network(track, torch.full((2,), 0.3), condition(track)).any()


# --- the loss ------------------------------------------------------------------------------------------------------
def loss_of(network: TrackFlow, track: Tensor, valid: Tensor, given: int = 1) -> float:
    return float(network.loss(track, valid, condition(track, given), generator()))


def test_the_loss_of_no_velocity_is_that_of_track_less_noise() -> None:
    network = TrackFlow(K, ACTIONS, SIDES, SMALL).eval()
    network.scale.fill_(2.0)
    track = numbers(2, T, 5 * K).float()
    noise = torch.randn(track.shape, generator=generator())
    expected = (track / 2 - noise).square()[:, 1:].mean()
    assert loss_of(network, track, torch.ones(2, T)) == pytest.approx(float(expected), rel=1e-5)


def test_the_loss_leaves_out_what_is_not_valid_and_what_is_known() -> None:
    """A huge value in such a frame of a fresh flow changes nothing; in another frame it does."""
    network = TrackFlow(K, ACTIONS, SIDES, SMALL).eval()
    track, valid = numbers(2, T, 5 * K).float(), torch.ones(2, T)
    valid[:, -2:] = 0
    plain = loss_of(network, track, valid, given=2)
    for frame, counts in ((0, False), (1, False), (2, True), (T - 3, True), (T - 2, False), (T - 1, False)):
        other = track.clone()
        other[:, frame] += 100
        assert (loss_of(network, other, valid, given=2) != plain) is counts, frame
    assert loss_of(network, track, torch.zeros(2, T)) == 0


def test_the_action_is_left_out_of_some_samples() -> None:
    seen: list[Tensor] = []
    for share in (0.0, 0.5, 1.0):
        network = flow(unconditional=share)
        network.action.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        track = torch.zeros(64, T, 5 * K)
        network.loss(track, torch.ones(64, T), condition(track), generator())
    left_out = [int((actions == ACTIONS).sum()) for actions in seen]
    assert left_out[0] == 0
    assert 16 < left_out[1] < 48
    assert left_out[2] == 64


def test_it_learns_which_action_goes_where() -> None:
    """Tracks that rise with action 0 and fall with action 1: so do samples, whatever the noise."""
    torch.manual_seed(0)
    network = TrackFlow(
        K, ACTIONS, SIDES, TrackConfig(smoothing=0.0, width=32, blocks=1, heads=2, steps=6, known=2, guidance=1.0)
    )
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    way = torch.linspace(0, 2, T)[:, None].expand(T, 5 * K)
    signs = torch.tensor([1.0, -1.0] * 8)
    track, noise = signs[:, None, None] * way, generator()
    asked = condition(track)._replace(action=(signs < 0).long())
    network.train()
    for _ in range(150):
        optimizer.zero_grad()
        network.loss(track, torch.ones(16, T), asked, noise).backward()
        optimizer.step()
    made = network.eval().sample(asked._replace(known=torch.zeros_like(track)), generator(9))
    assert (made[:, -1].mean(-1) * signs > 1).all()


# --- smoothing -----------------------------------------------------------------------------------------------------
def test_smoothing_keeps_what_is_steady_and_damps_what_trembles() -> None:
    steady = torch.arange(20.0)[None, :, None].expand(2, -1, 5)
    torch.testing.assert_close(smooth(steady, 1.0)[:, 3:-3], steady[:, 3:-3])
    trembling = torch.tensor([1.0, -1.0]).repeat(10)[None, :, None]
    assert smooth(trembling, 1.3).abs()[:, 4:-4].max() < 0.01
    assert smooth(trembling, 0.0) is trembling
    impulse = torch.zeros(1, 9, 1)
    impulse[0, 4] = 1
    assert smooth(impulse, 1.0).sum() == pytest.approx(1, abs=1e-5)
    assert smooth(impulse, 1.0)[0, 5, 0] / smooth(impulse, 1.0)[0, 4, 0] == pytest.approx(math.exp(-0.5), rel=1e-3)


def test_known_frames_stay_when_the_rest_is_smoothed() -> None:
    known = numbers(2, T, 5 * K).float()
    made = flow(smoothing=2.0).sample(condition(known, 3), generator())
    torch.testing.assert_close(made[:, :3], known[:, :3])
