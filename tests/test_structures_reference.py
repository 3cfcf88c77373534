"""Equality of `structures` with the authors' networks, losses, training step, geometry and face regressor."""

import pytest
import torch
from torch import Tensor

from reference_tools import Golden, load, needs_reference
from stillmotion import losses
from stillmotion.morphable.regressor import FaceRegressor
from stillmotion.systems.structures.config import PRESETS
from stillmotion.systems.structures.forecasting import (
    ForecastNetwork,
    ForecastOutput,
    ImageCritic,
    rename_release,
)
from stillmotion.systems.structures.losses import critic_loss, forecast_losses
from structures_tools import changed

RELEASE = PRESETS["release"]
pytestmark = needs_reference


def forecast_network(size: int, weights: dict[str, Tensor]) -> ForecastNetwork:
    with torch.device("meta"):
        network = ForecastNetwork(changed(RELEASE, size=size))
    network.to_empty(device="cpu")
    load(network, weights, rename_release)
    return network


def image_critic(size: int, weights: dict[str, Tensor]) -> ImageCritic:
    with torch.device("meta"):
        network = ImageCritic(changed(RELEASE, size=size))
    network.to_empty(device="cpu")
    load(network, weights, rename_release)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 96])
@torch.no_grad()
def test_the_forecasting_network_equals_the_authors(size: int) -> None:
    golden = Golden(f"structures/generator{size}")
    network = forecast_network(size, golden.weights()).eval()
    still, source, target = golden.inputs()
    blocks: list[Tensor] = []
    for block in network.decoder.blocks:
        block.register_forward_hook(lambda _, __, out: blocks.append(out))
    context = network.encode(still, source)
    coded = network.structure_encoder(target)
    golden.check("image_code", context.image.vector)
    golden.check("map_source_code", context.structure.vector)
    golden.check("map_target_code", coded.vector)
    for level, (a, b) in enumerate(zip(context.image.maps, coded.maps, strict=True)):
        golden.check(f"image_features.{level}", a)
        golden.check(f"map_target_features.{level}", b)
    output = network.decode(context, target)
    for number, found in enumerate(blocks):
        golden.check(f"decoder_block.{number}", found)
    for name in ("content", "mask", "frame"):
        golden.check(name, getattr(output, name))


def fixed_shares(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> torch.Generator:
    """Places of the penalty as in the golden."""
    shares = torch.tensor(golden.facts["settings"]["epsilon_per_sample"])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: shares)
    return torch.Generator()


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 96])
def test_the_critic_and_its_losses_equal_the_authors(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines 8 to 10: the norm is over the map's channels too; the weighted sums are the release's."""
    golden = Golden(f"structures/critic{size}")
    critic = image_critic(size, golden.weights())
    real, fake, structures, mask = golden.inputs()
    generator = fixed_shares(monkeypatch, golden)
    both = [torch.cat([frames, structures], dim=1) for frames in (real, fake)]
    golden.check("score_real", critic(both[0]))
    golden.check("score_fake", critic(both[1]))
    golden.check("gradient_penalty", losses.gradient_penalty(critic, both[0], both[1], generator))
    terms = critic_loss(critic, real, fake, structures, RELEASE.critic.penalty, generator)
    total = terms["wasserstein"] + terms["penalty"]
    golden.check("critic_loss", total)
    total.backward()
    gradients = {name: p.grad for name, p in critic.named_parameters()}
    norms = [gradients[rename_release(name)].norm() for name, _ in golden.facts["parameters"]]  # type: ignore[union-attr]
    golden.check("critic_grad_norm_per_parameter", torch.stack(norms))
    output = ForecastOutput(fake, mask, fake)
    found = forecast_losses(output, real, structures, critic, RELEASE.losses)
    golden.check("loss_l1", found["reconstruction"] / 3)
    golden.check("loss_mask_l1", found["mask"] / 0.05)
    golden.check("loss_adversarial", found["gan"])
    golden.check("generator_loss", torch.stack(list(found.values())).sum())


@pytest.mark.slow
def test_the_generators_step_equals_the_authors() -> None:
    """In float64: in float32 single ReLUs flip, and gradients of the decoder are 2e-4 off."""
    golden = Golden("structures/generator_step64")
    network = forecast_network(64, golden.weights("generator")).train().double()
    critic = image_critic(64, golden.weights("critic")).requires_grad_(False).double()
    still, true, source, target = (x.double() for x in golden.inputs())
    output = network(still, source, target)
    golden.check("frame", output.frame)
    golden.check("mask", output.mask)
    terms = forecast_losses(output, true, target, critic, RELEASE.losses)
    total = torch.stack(list(terms.values())).sum()
    golden.check("generator_loss", total)
    for name in ("running_mean", "running_var"):
        golden.check(f"after_forward.decoder.bn.{name}", network.decoder.norm.get_buffer(name))
    total.backward()
    parts = {"img_encoder": network.image_encoder, "norm_encoder": network.structure_encoder}
    for name, part in {**parts, "decoder": network.decoder}.items():
        norms = torch.stack([p.grad.norm() for p in part.parameters() if p.grad is not None])
        golden.check(f"grad_norm.{name}", norms.norm())


# --- geometry -------------------------------------------------------------------------------------------------------
def ellipsoid() -> Tensor:
    """Triangles of the golden's mesh, from 0 on."""
    found = []
    for i in range(8):
        for j in range(16):
            a, b, c, d = (16 * row + column % 16 for row in (i, i + 1) for column in (j, j + 1))
            found += [(a, b, c), (b, d, c)]
    return torch.tensor(found)


def test_the_face_regressor_equals_the_authors() -> None:
    golden = Golden("structures/face_regressor")
    network = FaceRegressor().eval()
    load(network, golden.weights(), str)
    golden.check("params62", network(golden.inputs()[0]))
