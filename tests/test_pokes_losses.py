"""Losses of the paper's networks by hand, and equality with the authors'."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pokes_state_tools import TINY_STATES, changed
from reference_tools import Golden, load, needs_reference
from refusals import refuses
from stillmotion.files import save_tensors
from stillmotion.nn import vgg
from stillmotion.nn.discriminators import PatchDiscriminator
from stillmotion.systems.pokes.config import PRESETS
from stillmotion.systems.pokes.losses import (
    Discriminators,
    discriminator_loss,
    generator_losses,
    latent_loss,
    perceptual_distance,
    perceptual_network,
    sample_frames,
)
from test_nn_discriminators import patch_name

RELEASE = PRESETS["release"]


def test_presets_have_the_releases_weights() -> None:
    for config in (PRESETS["paper"], RELEASE):
        weights = config.losses
        assert (weights.static, weights.video, weights.latent) == (1, 5, 0.1)
        assert (weights.frame_gan, weights.frame_features) == (1, 0)
        assert (weights.clip_gan, weights.clip_features) == (5, 10)
        assert config.discriminators.clip_penalty == 0.1
        assert config.discriminators.frame_examples == 16
        assert weights.perceptual.network == "vgg19"
    # "Gradient penalty is used for the temporal discriminator" (appendix E.2)
    assert PRESETS["paper"].discriminators.frame_penalty == 0
    assert RELEASE.discriminators.frame_penalty == 1e-4


# --- perceptual distance -------------------------------------------------------------------------------------------
class Multiples(nn.Module):
    """A perceptual network of five maps: the picture times 1 to 5."""

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return [pictures * factor for factor in range(1, 6)]


def test_the_perceptual_distance_has_six_terms() -> None:
    """Pictures differ by 0.1 in [-1, 1], so by 0.05 in [0, 1]."""
    target = torch.full((2, 3, 4, 4), 0.3)
    deviations = (0.229, 0.224, 0.225)
    pictures = sum(0.05 / deviation for deviation in deviations) / 3
    found = perceptual_distance(Multiples(), target + 0.1, target)
    assert found.item() == pytest.approx(pictures + 0.05 * (1 + 2 + 3 + 4 + 5), rel=1e-5)
    assert perceptual_distance(None, target + 0.1, target).item() == pytest.approx(pictures, rel=1e-5)
    assert perceptual_distance(Multiples(), target, target).item() == 0


def test_the_perceptual_distance_of_folded_frames_is_the_mean_over_frames() -> None:
    a, b = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    frames = [perceptual_distance(Multiples(), a[t : t + 1], b[t : t + 1]) for t in range(4)]
    torch.testing.assert_close(perceptual_distance(Multiples(), a, b), torch.stack(frames).mean())


def test_no_gradient_reaches_the_target() -> None:
    generated, target = (torch.rand(1, 3, 4, 4).requires_grad_() for _ in range(2))
    perceptual_distance(Multiples(), generated, target).backward()
    assert generated.grad is not None
    assert target.grad is None


@pytest.fixture
def narrow_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layers with few channels."""
    monkeypatch.setattr(vgg, "_WIDTHS", (2, 3, 4, 5, 6))


@pytest.mark.usefixtures("narrow_vgg")
@pytest.mark.parametrize(("depth", "layers"), [(16, [3, 8, 13, 20, 27]), (19, [3, 8, 13, 22, 31])])
def test_maps_follow_the_second_convolution_of_each_block(depth: int, layers: list[int]) -> None:
    network = vgg.VGG(depth, 2)
    assert network.feature_layers == layers
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    maps, x = network(picture), vgg.normalise(picture)
    assert len(maps) == 5
    for number, layer in enumerate(network.features):
        x = layer(x)
        if number in layers:
            assert torch.equal(x, maps[layers.index(number)])


@pytest.mark.usefixtures("narrow_vgg")
def test_the_perceptual_network_is_read_from_a_file_of_known_digest(tmp_path: Path) -> None:
    file = tmp_path / "vgg19.safetensors"
    weights = vgg.VGG(19).state_dict()
    save_tensors(file, {**weights, "classifier.0.weight": torch.zeros(2)})

    def settings(network: str, digest: str = "") -> Any:
        given = f"{file}@{digest or hashlib.sha256(file.read_bytes()).hexdigest()}"
        changes = {"losses__perceptual__network": network, "losses__perceptual__file": given}
        return changed(TINY_STATES, **changes).losses.perceptual

    network = perceptual_network(settings("vgg19"))
    assert network is not None
    assert not any(p.requires_grad for p in network.parameters())
    assert torch.equal(network.state_dict()["features.34.weight"], weights["features.34.weight"])
    refuses("lacks 'features", perceptual_network, settings("vgg16"))
    refuses("SHA-256", perceptual_network, settings("vgg19", "0" * 64))
    refuses("weights of vgg19", perceptual_network, RELEASE.losses.perceptual)
    assert perceptual_network(settings("none")) is None
    random = perceptual_network(settings("random-vgg16"))
    assert random.feature_layers == [3, 8, 13, 20, 27]  # type: ignore[union-attr]


# --- latent loss and frames ----------------------------------------------------------------------------------------
def test_the_latent_loss_averages_levels_and_then_frames() -> None:
    """The errors are 1 and 3 at levels of 4 and 400 values: their squares weigh alike."""
    small, large = torch.zeros(1, 1, 2, 2), torch.zeros(1, 4, 10, 10)
    predicted, encoded = [[small, large], [small, large]], [[small + 1, large + 3], [small, large]]
    assert latent_loss(predicted, encoded).item() == pytest.approx(((1 + 9) / 2 + 0) / 2)
    assert latent_loss(predicted, predicted).item() == 0
    with pytest.raises(ValueError, match="zip"):
        latent_loss(predicted, encoded[:1])


def test_frames_are_drawn_with_replacement_from_all_clips() -> None:
    frames = torch.arange(6.0).view(2, 3, 1, 1, 1).expand(2, 3, 3, 2, 2)
    drawn = [sample_frames(frames, 40, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert drawn[0].shape == (40, 3, 2, 2)
    assert set(drawn[0][:, 0, 0, 0].tolist()) == {0, 1, 2, 3, 4, 5}
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


# --- discriminators ------------------------------------------------------------------------------------------------
def test_a_linear_discriminator_has_the_analytic_penalty() -> None:
    """The score is the sum of 0.5 x over 3 x 2 x 2 values: the squared norm of the gradient is 12 / 4 = 3."""
    passes: list[Tensor] = []

    def linear(samples: Tensor) -> list[Tensor]:
        passes.append(samples)
        return [0.5 * samples.flatten(1).sum(1)]

    real, fake = torch.full((4, 3, 2, 2), 0.1), torch.full((4, 3, 2, 2), -0.05).requires_grad_()
    hinge = (1 - 0.6) + (1 - 0.3)
    assert discriminator_loss(linear, real, fake, 0.0).item() == pytest.approx(hinge)  # type: ignore[arg-type]
    found = discriminator_loss(linear, real, fake, 0.1)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(hinge + 0.1 * 3)
    assert len(passes) == 4  # one per side
    assert not passes[-1].requires_grad


class Halves(nn.Module):
    """Two maps, the sample and its half, and scores."""

    def forward(self, samples: Tensor) -> list[Tensor]:
        return [samples, samples / 2, samples.mean((1, 2, 3))]


def test_generator_losses_by_hand() -> None:
    real, fake = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.4)
    found = generator_losses(Halves(), real, fake, 5.0, 10.0)
    assert found["gan"].item() == pytest.approx(-5 * 0.4)
    assert found["features"].item() == pytest.approx(10 * (0.4 + 0.2) / 2)
    assert list(generator_losses(Halves(), real, fake, 5.0, 0.0)) == ["gan"]


def test_the_first_map_of_the_patch_discriminator_is_not_matched() -> None:
    torch.manual_seed(0)
    network, samples = PatchDiscriminator(width=2), torch.rand(2, 1, 3, 32, 32)
    maps = [network(sample) for sample in samples]
    expected = sum((a - b).abs().mean() for a, b in zip(maps[0][1:4], maps[1][1:4], strict=True)) / 3
    found = generator_losses(network, samples[0], samples[1], 1.0, 1.0)["features"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("size", "patches", "parts"), [(64, 6, 4), (128, 14, 8)])
def test_score_maps_have_the_releases_sizes(size: int, patches: int, parts: int) -> None:
    with torch.device("meta"):
        found = Discriminators.build(changed(RELEASE, size=size))
        assert found.frame is not None
        assert found.clip is not None
        assert found.frame(torch.zeros(2, 3, size, size))[-1].shape == (2, 1, patches, patches)
        assert sum(p.numel() for p in found.frame.parameters()) == 2_764_737
        assert sum(p.numel() for p in found.clip.parameters()) == 26_554_369
        for layer in [m for m in found.clip.modules() if parametrize.is_parametrized(m)]:  # meta knows no autocast
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        *maps, scores = found.clip(torch.zeros(2, 3, 10, size, size))
    assert scores.shape == (2, 1, parts, parts)
    assert [stage.shape[2] for stage in maps] == [10, 5, 3, 2, 1]


def test_discriminators_without_a_weight_are_not_built() -> None:
    none = changed(TINY_STATES, losses__frame_gan=0.0, losses__clip_gan=0.0, losses__clip_features=0.0)
    assert Discriminators.build(none) == (None, None)


# --- the authors' losses -------------------------------------------------------------------------------------------
@needs_reference
@pytest.mark.slow
@torch.no_grad()
def test_the_losses_equal_the_authors() -> None:
    """Discriminators alone: test_nn_discriminators.py."""
    golden = Golden("pokes/losses")
    scale = torch.tensor(1.4142135)
    network = vgg.VGG(19, 2).eval()
    load(network, {name: w * scale if w.dim() == 4 else w for name, w in golden.weights().items()}, str)
    target, predicted, *states = golden.inputs()
    maps, others = (network((pictures + 1) / 2) for pictures in (target, predicted))
    for number, (a, b) in enumerate(zip(maps, others, strict=True), 1):
        golden.check(f"vgg_feature.relu{number}_2", a)
        golden.check(f"vgg_term.relu{number}_2", (a - b).abs().mean()[None])
    golden.check("vgg_term.input", perceptual_distance(None, predicted, target)[None])
    golden.check("vgg_loss_total", perceptual_distance(network, predicted, target))
    frames = [(states[first : first + 6 : 2], states[first + 1 : first + 7 : 2]) for first in (0, 6)]
    for number, (found, true) in enumerate(frames):
        golden.check(f"latent_loss_frame{number}", latent_loss([found], [true]))
    golden.check("latent_loss", latent_loss([found for found, _ in frames], [true for _, true in frames]))


@needs_reference
def test_the_sums_of_a_discriminators_losses_equal_the_authors() -> None:
    golden = Golden("pokes/patch_discriminator64")
    network = PatchDiscriminator().eval()
    load(network, golden.weights(), patch_name)
    real, fake = golden.inputs()
    known = {name: golden.values[name].item() for name in ("loss_real_hinge", "loss_fake_hinge", "gradient_penalty")}
    expected = known["loss_real_hinge"] + known["loss_fake_hinge"] + 1e-4 * known["gradient_penalty"]
    assert discriminator_loss(network, real, fake, 1e-4).item() == pytest.approx(expected, rel=1e-4)
    terms = generator_losses(network, real, fake, 1.0, 1.0)
    golden.check("loss_generator", terms["gan"])
    golden.check("loss_feature_matching_l1", terms["features"])
