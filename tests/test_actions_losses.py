"""Losses of `actions` by hand: perceptual, divergence, ramp and free bits, and who gets gradient."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as exact_divergence
from torch.nn import functional as F

from actions_tools import TINY, changed, networks_of, uniform
from refusals import refuses
from stillmotion.files import save_tensors
from stillmotion.nn import vgg
from stillmotion.systems.actions.config import MotionLossConfig
from stillmotion.systems.actions.losses import (
    discriminator_loss,
    kl_divergence,
    kl_factor,
    motion_losses,
    perceptual_loss,
    perceptual_network,
    translator_losses,
    with_free_bits,
)
from stillmotion.systems.actions.motion import MotionOutput, SequenceDiscriminator
from stillmotion.systems.actions.networks import ImageDiscriminator


class Maps(nn.Module):
    """Maps of several sizes: the picture times 1, 2, ..., of which all but the first have one pixel."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images, *(number * images[..., :1, :1] for number in range(2, 6))]


@pytest.fixture
def narrow_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layers with few channels."""
    monkeypatch.setattr(vgg, "_WIDTHS", (2, 3, 4, 5, 6))


# --- perceptual -----------------------------------------------------------------------------------------------------
def test_the_perceptual_loss_is_the_mean_of_the_means_of_five_layers() -> None:
    """Frames differ by 0.4 everywhere, pictures in [0, 1] by half of it; layers by 1, ..., 5 times that."""
    frame, target = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.4)
    assert perceptual_loss(Maps(), frame, target).item() == pytest.approx(0.2 * (1 + 2 + 3 + 4 + 5) / 5)
    assert perceptual_loss(Maps(), target, target).item() == 0


def test_no_gradient_reaches_the_perceptual_target() -> None:
    frame, target = uniform(1, 3, 4, 4).requires_grad_(), uniform(1, 3, 4, 4, seed=1).requires_grad_()
    perceptual_loss(Maps(), frame, target).backward()
    assert frame.grad is not None
    assert target.grad is None


@pytest.mark.usefixtures("narrow_vgg")
def test_maps_follow_the_last_convolution_of_each_block() -> None:
    assert vgg.VGG(19).feature_layers == [3, 8, 17, 26, 35]  # conv1_2, conv2_2, conv3_4, conv4_4, conv5_4
    assert vgg.VGG(16).feature_layers == [3, 8, 15, 22, 29]


@pytest.mark.usefixtures("narrow_vgg")
def test_the_perceptual_network_is_read_from_a_file_of_known_digest(tmp_path: Path) -> None:
    file = tmp_path / "vgg19.safetensors"
    weights = vgg.VGG(19).state_dict()
    save_tensors(file, {**weights, "classifier.0.weight": torch.zeros(2)})

    def settings(network: str, inputs: str = "torchvision", digest: str = "") -> Any:
        given = f"{file}@{digest or hashlib.sha256(file.read_bytes()).hexdigest()}"
        changes = {"network": network, "file": given, "inputs": inputs}
        return changed(TINY, **{f"losses__perceptual__{name}": value for name, value in changes.items()}).losses

    network, caffe = (perceptual_network(settings("vgg19", inputs).perceptual) for inputs in ("torchvision", "caffe"))
    assert network is not None
    assert caffe is not None
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert torch.equal(network.state_dict()["features.34.weight"], weights["features.34.weight"])
    refuses("lacks 'features", perceptual_network, settings("vgg16").perceptual)
    refuses("SHA-256", perceptual_network, settings("vgg19", digest="0" * 64).perceptual)
    refuses("weights of vgg19", perceptual_network, TINY.losses.perceptual)
    picture = uniform(1, 3, 16, 16) / 2 + 0.5
    assert torch.equal(network(picture)[0], network.features[:4](vgg.normalise(picture)))
    assert torch.equal(caffe(picture)[0], caffe.features[:4](vgg.to_caffe(picture)))
    random = perceptual_network(changed(TINY, losses__perceptual__network="random-vgg16").losses.perceptual)
    assert random is not None
    assert random.feature_layers == [3, 8, 15, 22, 29]
    assert perceptual_network(changed(TINY, losses__perceptual__weight=0.0).losses.perceptual) is None


def test_inputs_of_the_networks_authors_are_bgr_of_0_to_255_without_their_mean() -> None:
    picture = torch.tensor([1.0, 0.5, 0.0])[None, :, None, None]  # red, green, blue
    expected = [0 - 103.939, 127.5 - 116.779, 255 - 123.68]
    assert vgg.to_caffe(picture).flatten().tolist() == pytest.approx(expected, abs=1e-4)


# --- GANs -----------------------------------------------------------------------------------------------------------
def test_gans_have_sigmoid_cross_entropies() -> None:
    real, fake = uniform(2, 1, 6, 6), uniform(2, 1, 6, 6, seed=1)
    expected = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    expected = expected + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    torch.testing.assert_close(discriminator_loss(nn.Identity(), real, fake), expected)
    terms = translator_losses(None, nn.Identity(), fake, real, changed(TINY, losses__gan=3.0).losses)
    assert [*terms] == ["gan"]
    torch.testing.assert_close(terms["gan"], 3 * F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake)))


def test_the_discriminators_loss_gives_the_generated_no_gradient() -> None:
    real, fake = uniform(2, 3).requires_grad_(), uniform(2, 3, seed=1).requires_grad_()
    discriminator_loss(nn.Linear(3, 1), real, fake).backward()
    assert real.grad is not None
    assert fake.grad is None


# --- who gets gradient ----------------------------------------------------------------------------------------------
def test_the_perceptual_loss_trains_detector_encoder_and_translator_and_nothing_else() -> None:
    """Sheet section 12, line 8. The image encoder has no unused rows 7 and 8."""
    model, discriminator = networks_of().train(), ImageDiscriminator(TINY.discriminator)
    still, target = uniform(2, 3, 16, 16), uniform(2, 3, 16, 16, seed=1)
    frame = model(model.encode(still), model.detector(target)).frame
    assert len(model.encoder.levels) == 3
    translator_losses(Maps(), None, frame, target, TINY.losses)["perceptual"].backward(retain_graph=True)
    for network in (model.detector, model.encoder, model.translator):
        for name, value in network.named_parameters():
            assert value.grad is not None, name
            if not name.endswith("conv.bias"):  # batch norm takes the mean out
                assert value.grad.abs().max() > 0, name
    assert all(value.grad is None for value in model.motion.parameters())
    model.zero_grad()
    translator_losses(None, discriminator, frame, target, TINY.losses)["gan"].backward()
    for network in (model.detector, model.encoder, model.translator):
        assert all(value.grad is not None for value in network.parameters())


def test_the_motion_losses_train_the_whole_motion_generator_and_nothing_else() -> None:
    model = networks_of(motion__mode="linear")
    discriminator = SequenceDiscriminator(model.config)
    future, noise = uniform(4, 5, 3, 2), uniform(4, 6, seed=1)
    output = model.motion(uniform(4, 3, 2, seed=2), future, torch.tensor([0, 1, 2, 0]), noise)
    terms = motion_losses(output, future, discriminator, TINY.motion_losses, 0.0)
    assert [*terms] == ["kl", "reconstruction", "gan"]
    sum(terms.values(), torch.zeros(())).backward()
    for name, value in model.motion.named_parameters():
        assert (value.grad is not None) == value.requires_grad, name
        if value.grad is not None:
            assert value.grad.abs().max() > 0, name
    others = [*model.detector.parameters(), *model.encoder.parameters(), *model.translator.parameters()]
    assert all(value.grad is None for value in others)


# --- the sums of the second stage -----------------------------------------------------------------------------------
def test_terms_of_the_second_stage_by_hand() -> None:
    """Two numbers of z with mean 1 and deviation 1: half a nat each; coordinates are off by 0.25."""
    future = torch.zeros(3, 5, 2, 2)
    output = MotionOutput(future + 0.25, torch.ones(3, 2), torch.ones(3, 2))
    weights = MotionLossConfig(kl=3.0, reconstruction=100.0, gan=2.0)
    terms = motion_losses(output, future, None, weights, 0.0)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx({"kl": 3.0, "reconstruction": 25.0})
    zero = motion_losses(output, future, nn.Identity(), weights, 0.0)["gan"]
    assert zero.item() == pytest.approx(2 * F.softplus(torch.tensor(-0.25)).item())
    assert motion_losses(output, future, None, MotionLossConfig(free_bits=0.75), 0.0)["kl"].item() == 1.5
    ramped = MotionLossConfig(kl_ramp=0.5)
    assert motion_losses(output, future, None, ramped, 0.25)["kl"].item() == pytest.approx(0.5)


def test_the_divergence_is_the_closed_form_and_zero_at_the_prior() -> None:
    mean, std = 2 * uniform(7, 64), uniform(7, 64, seed=1).exp()
    expected = exact_divergence(Normal(mean, std), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, std), expected)
    assert kl_divergence(torch.zeros(2, 64), torch.ones(2, 64)).abs().max() == 0
    total = with_free_bits(kl_divergence(mean, std))
    torch.testing.assert_close(total, expected.sum(1).mean())  # a sum over z, a mean over the batch


def test_a_dead_number_of_z_costs_nearly_nine_nats_and_is_finite() -> None:
    std = torch.zeros(1, 1).requires_grad_()
    value = kl_divergence(torch.zeros(1, 1), std).sum()
    value.backward()
    assert value.item() == pytest.approx(8.71, abs=0.01)
    assert std.grad is not None
    assert std.grad.item() == 0


def test_free_bits_leave_numbers_below_without_gradient() -> None:
    """The batch is one group: number 0 has 0.5 on average, number 1 has 2."""
    divergence = torch.tensor([[0.0, 1.0], [1.0, 3.0]], requires_grad=True)
    total = with_free_bits(divergence, 0.75)
    assert total.item() == 2.75
    total.backward()
    assert divergence.grad is not None
    assert divergence.grad.tolist() == [[0, 0.5], [0, 0.5]]
    assert with_free_bits(divergence).item() == 2.5


def test_the_weight_of_the_divergence_rises_over_its_share_of_the_stage() -> None:
    ramped = MotionLossConfig(kl_ramp=0.4)
    assert [kl_factor(ramped, done) for done in (0, 0.1, 0.4, 1)] == pytest.approx([0, 0.25, 1, 1])
    assert kl_factor(MotionLossConfig(), 0.0) == 1
