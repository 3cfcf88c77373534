"""Losses of `structures` by hand, and one step of each side."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from refusals import refuses
from stillmotion.files import save_tensors
from stillmotion.nn import vgg
from stillmotion.systems.structures.config import PRESETS, FeatureConfig, LossConfig
from stillmotion.systems.structures.forecasting import ForecastNetwork, ForecastOutput, ImageCritic
from stillmotion.systems.structures.losses import (
    appearance_network,
    critic_loss,
    crop_boxes,
    feature_loss,
    forecast_losses,
    mask_loss,
    pose_loss,
    reconstruction_loss,
    refinement_losses,
    sample_frame,
)
from stillmotion.systems.structures.refinement import RefinementNetwork, RefinementOutput, VideoCritic, to_3d
from structures_tools import TINY, uniform


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- generators -----------------------------------------------------------------------------------------------------
def test_the_generators_loss_by_hand() -> None:
    """Line 10: 3 mean |difference| + 0.05 mean |mask| - mean score; (1, 1, 1) in the paper (Eq. 4 to 7)."""
    frame, target = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.2)
    output = ForecastOutput(frame, torch.full((2, 1, 4, 4), 0.4), frame)
    structures = torch.full((2, 13, 4, 4), 0.1)

    def critic(samples: Tensor) -> Tensor:
        assert samples.shape == (2, 16, 4, 4)
        return samples[:, 0].mean((1, 2)) + samples[:, -1].mean((1, 2))  # 0.5 + 0.1

    for preset, expected in (("release", 3 * 0.3 + 0.05 * 0.4 - 0.6), ("paper", 0.3 + 0.4 - 0.6)):
        terms = forecast_losses(output, target, structures, critic, PRESETS[preset].losses)
        assert list(terms) == ["reconstruction", "mask", "gan"]
        assert sum(terms.values()).item() == pytest.approx(expected, abs=1e-6)  # type: ignore[union-attr]
    assert reconstruction_loss(torch.tensor([1.0, -3.0]), torch.zeros(2)).item() == 2
    assert mask_loss(torch.tensor([0.0, 0.5])).item() == 0.25


def test_the_refiners_loss_by_hand() -> None:
    """Line 17: D_V once, and the average of D_I over the K frames (Eq. 11 and 12)."""
    frames = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(2, 4, 3, 4, 4)
    output = RefinementOutput(frames, torch.full((2, 4, 1, 4, 4), 0.2), frames)
    structures = torch.full((2, 4, 13, 4, 4), 0.5)
    seen: dict[str, tuple[int, ...]] = {}

    def image_critic(samples: Tensor) -> Tensor:
        seen["image"] = tuple(samples.shape)
        return samples[:, 0].mean((1, 2)) + 10 * samples[:, 3].mean((1, 2))  # the frame's number, and 5

    def video_critic(samples: Tensor) -> Tensor:
        seen["video"] = tuple(samples.shape)
        return 100 * samples[:, 3].mean((1, 2, 3))

    weights = LossConfig(reconstruction=2.0, mask=3.0, gan=0.5)
    terms = refinement_losses(output, frames - 1, structures, (image_critic, video_critic), weights)
    assert seen == {"image": (8, 16, 4, 4), "video": (2, 16, 4, 4, 4)}
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"reconstruction": 2 * 1, "mask": 3 * 0.2, "gan": -0.5 * (50 + 1.5 + 5)}
    )
    # A frame's number that rises by one more: the changes are off by one, whatever the mean.
    weights = LossConfig(reconstruction=2.0, mask=0.0, temporal=5.0, squared=2.0)
    terms = refinement_losses(output, 2 * frames, structures, None, weights)
    assert list(terms) == ["reconstruction", "mask", "temporal", "squared"]
    assert terms["temporal"].item() == pytest.approx(5 * 1)
    assert terms["squared"].item() == pytest.approx(2 * 3.5)


# --- critics --------------------------------------------------------------------------------------------------------
def test_a_linear_critic_has_the_analytic_penalty_with_the_maps_channels() -> None:
    """Line 8: (|w| - 1)^2, |w| over all 5 channels; 1, with finite gradients, where the gradient is zero."""
    weight = torch.tensor([2.0, 0, 0, 1.0, 2.0]).view(5, 1, 1).requires_grad_()

    def linear(samples: Tensor) -> Tensor:
        return (samples * weight)[..., 0, 0].sum(1)

    real, fake = uniform(3, 3, 2, 2), uniform(3, 3, 2, 2, seed=1)
    maps = uniform(3, 2, 2, 2, seed=2)
    terms = critic_loss(linear, real, fake, maps, 10.0, generator())
    assert terms["penalty"].item() == pytest.approx(10 * (3 - 1) ** 2)
    expected = (2 * (fake - real)[:, 0, 0, 0]).mean()  # the maps are the same
    assert terms["wasserstein"].item() == pytest.approx(expected.item(), rel=1e-5)
    weight.data.zero_()
    terms = critic_loss(linear, real, fake, maps, 10.0, generator())
    assert terms["penalty"].item() == pytest.approx(10)
    terms["penalty"].backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_one_share_per_sample_lies_between_and_the_map_stays() -> None:
    """Line 9: the fake image gets no gradient in the critic's step."""
    seen: list[Tensor] = []

    def critic(samples: Tensor) -> Tensor:
        seen.append(samples.detach().clone())
        return samples.square().flatten(1).sum(1)

    real, fake = torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2).requires_grad_()
    maps = uniform(4, 2, 2, 2)
    sum(critic_loss(critic, real, fake, maps, 10.0, generator()).values())
    between = seen[-1]
    assert torch.equal(between[:, 3:], maps)
    shares = between[:, :3].flatten(1)
    torch.testing.assert_close(shares, shares[:, :1].expand_as(shares))
    assert shares[:, 0].unique().numel() == 4
    assert 0 < shares.min() < shares.max() < 1
    assert fake.grad is None
    torch.manual_seed(0)
    network = ImageCritic(TINY)
    image, structure = uniform(2, 3, 16, 16).requires_grad_(), uniform(2, 13, 16, 16)
    terms = critic_loss(network, torch.zeros(2, 3, 16, 16), image, structure, 10.0, generator())
    torch.stack(list(terms.values())).sum().backward()
    assert image.grad is None
    assert all(p.grad is not None for p in network.parameters())


def test_the_video_critic_learns_by_the_same_loss() -> None:
    """Eq. 13 and 14: lower for a critic that has learned from one batch."""
    torch.manual_seed(0)
    critic = VideoCritic(TINY)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.0, 0.9))
    real, fake = uniform(2, 3, 4, 16, 16), torch.zeros(2, 3, 4, 16, 16)
    maps, found = uniform(2, 13, 4, 16, 16, seed=1), []
    for _ in range(15):
        terms = critic_loss(critic, real, fake, maps, 10.0, generator())
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        found.append(sum(terms.values()).item())  # type: ignore[union-attr]
    assert found[0] == pytest.approx(10, abs=0.5)  # almost no gradient yet
    assert found[-1] < 0.8 * found[0]


def test_one_random_frame_pair_of_each_clip() -> None:
    """Line 17: D_I's own update sees one moment, the same of both clips and of the maps."""
    numbers = torch.arange(20.0).view(2, 10, 1, 1, 1)
    drawn: set[float] = set()
    for seed in range(60):
        real, fake, maps = sample_frame(
            numbers.expand(2, 10, 3, 2, 2), numbers.expand(2, 10, 3, 2, 2) + 100,
            numbers.expand(2, 10, 13, 2, 2) - 100, generator(seed),
        )  # fmt: skip
        assert (real.shape, maps.shape) == ((2, 3, 2, 2), (2, 13, 2, 2))
        assert torch.equal(fake, real + 100)
        assert torch.equal(maps[:, :3], real - 100)
        assert real[0].max() < 10 <= real[1].min()
        drawn |= set(real.flatten().tolist())
    assert drawn == set(map(float, range(20)))


def test_one_step_of_each_side_changes_that_side_alone() -> None:
    """Lines 11 and 17: the critics first, then the generators; a fixed G_M does not change in stage 2."""
    torch.manual_seed(0)
    forecasts, refiner = ForecastNetwork(TINY).eval(), RefinementNetwork(TINY)
    critics = nn.ModuleList([ImageCritic(TINY), VideoCritic(TINY)])
    before = {name: value.clone() for name, value in forecasts.state_dict().items()}
    still, maps, true = uniform(1, 3, 16, 16), uniform(1, 4, 13, 16, 16), uniform(1, 4, 3, 16, 16, seed=3)
    with torch.no_grad():
        coarse = forecasts(still, maps[:, 0], maps[0]).frame[None]
    output = refiner(coarse, maps)
    real, fake, structures = sample_frame(true, output.frames, maps, generator())
    image = critic_loss(critics[0], real, fake, structures, 10.0, generator())
    clips = [x.transpose(1, 2) for x in (true, output.frames, maps)]
    video = critic_loss(critics[1], clips[0], clips[1], clips[2], 10.0, generator())
    torch.stack([*image.values(), *video.values()]).sum().backward()
    assert all(p.grad is not None for p in critics.parameters())
    assert all(p.grad is None for p in refiner.parameters())
    terms = refinement_losses(output, true, maps, (critics[0], critics[1]), TINY.losses)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for p in refiner.parameters())
    assert all(p.grad is None for p in forecasts.parameters())
    assert all(torch.equal(value, before[name]) for name, value in forecasts.state_dict().items())
    assert to_3d(true, maps).shape == (1, 16, 4, 16, 16)


# --- features -------------------------------------------------------------------------------------------------------
class Multiple(nn.Module):
    """Two maps: zeros, and the picture times a factor."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return [0 * pictures, self.factor * pictures]


def test_feature_similarity_by_hand() -> None:
    """Eq. 15: the squares of both networks' last maps are added; frames differ by 0.2 in [0, 1]."""
    generated, target = torch.full((2, 3, 8, 8), 0.5).requires_grad_(), torch.full((2, 3, 8, 8), 0.1).requires_grad_()
    boxes = torch.tensor([[0.0, 0, 4, 4]] * 2)
    found = feature_loss([Multiple(1.0), Multiple(3.0)], generated, target, boxes, FeatureConfig(side=16))
    assert found.item() == pytest.approx(0.04 * (1 + 9), rel=1e-5)
    found.backward()
    assert target.grad is None
    assert generated.grad is not None
    assert generated.grad[..., :5, :5].abs().min() >= 0
    assert generated.grad[..., 6:, 6:].abs().max() == 0  # outside of the box
    assert feature_loss([], generated, target, boxes, FeatureConfig()).item() == 0


def test_all_maps_count_by_their_direction() -> None:
    """Ours: 2 - 2 cos of the angle between the channels at each place; the map of zeros adds nothing."""
    generated, target = (
        torch.tensor(c)[None, :, None, None].expand(1, 3, 8, 8) for c in ((1.0, -1, -1), (1.0, 1, -1))
    )
    boxes, settings = torch.tensor([[-0.5, -0.5, 7.5, 7.5]]), FeatureConfig(side=16, maps="all")
    for factor in (1.0, 3.0):
        found = feature_loss([Multiple(factor)], generated, target, boxes, settings)
        assert found.item() == pytest.approx(2 - 2 * 0.5**0.5, rel=1e-5)


def test_boxes_are_cropped_by_their_outer_edges() -> None:
    frames = uniform(2, 3, 6, 8)
    whole = torch.tensor([[-0.5, -0.5, 7.5, 5.5], [1.5, 0.5, 5.5, 4.5]])
    found = crop_boxes(frames, whole[1:].expand(2, -1), 4)
    torch.testing.assert_close(found, frames[:, :, 1:5, 2:6])
    found = crop_boxes(frames, whole[:1].expand(2, -1), 2)
    assert found.shape == (2, 3, 2, 2)
    torch.testing.assert_close(found[:, :, 0, 0], frames[:, :, 1, 1:3].mean(-1))
    beyond = crop_boxes(frames, torch.tensor([[-4.5, -4.5, -0.5, -0.5]] * 2), 4)
    torch.testing.assert_close(beyond, frames[:, :, :1, :1].expand_as(beyond))


def test_the_appearance_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "_WIDTHS", (2, 3, 4, 5, 6))
    refuses("weights of vgg16", appearance_network, FeatureConfig())
    random = appearance_network(FeatureConfig(network="random-vgg16"))
    assert not any(p.requires_grad for p in random.parameters())
    file = tmp_path / "vgg16.safetensors"
    weights = vgg.VGG(16).state_dict()
    save_tensors(file, weights)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    network = appearance_network(FeatureConfig(file=f"{file}@{digest}"))
    assert torch.equal(network.state_dict()["features.28.weight"], weights["features.28.weight"])
    assert network(uniform(1, 3, 32, 32))[-1].shape == (1, 6, 2, 2)  # conv5_3
    assert network.feature_layers[-1] == 29  # type: ignore[index]


# --- poses ----------------------------------------------------------------------------------------------------------
def test_joints_that_are_not_visible_add_no_loss() -> None:
    """Line 18: the mean is over all coordinates; x and y of a joint are 13 apart."""
    predicted, target = torch.zeros(2, 4, 26), torch.zeros(2, 4, 26)
    target[..., [3, 16]] = 0.5
    visible = torch.ones(2, 4, 13)
    assert pose_loss(predicted, target, visible).item() == pytest.approx(0.25 * 2 / 26)
    visible[..., 3] = 0
    assert pose_loss(predicted, target, visible).item() == 0
