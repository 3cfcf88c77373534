"""Folding: the same function from fewer operations."""

import copy

import pytest
import torch
from torch import nn

from driving_tools import at, tiny
from refusals import refuses
from stillmotion.nn.norm import BatchNorm2d
from stillmotion.nn.unet import Affine2d, fold_norm
from stillmotion.systems.base import folded
from stillmotion.systems.driving.networks import Keypoints


def randomize_norms(network: nn.Module, seed: int = 0) -> None:
    """Give every norm a scale, a shift and statistics that matter."""
    torch.manual_seed(seed)
    for part in network.modules():
        if isinstance(part, Affine2d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.uniform_(part.bias, -1.0, 1.0)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.2, 3)


def test_a_norm_by_hand() -> None:
    """y = 3 x + 1, then (y - 2) / sqrt(4) * 5 + 7 is 7.5 x + 4.5."""
    conv, norm = nn.Conv2d(1, 1, 1), BatchNorm2d(1, eps=0.0)
    for tensor, value in ((conv.weight, 3.0), (conv.bias, 1.0), (norm.weight, 5.0), (norm.bias, 7.0)):
        nn.init.constant_(tensor, value)
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0)
    fold_norm(conv, norm)
    assert conv.weight.item() == pytest.approx(7.5)
    assert conv.bias.item() == pytest.approx(4.5)


@pytest.mark.parametrize("norm", ["batch", "affine"])
def test_folded_networks_give_the_same_output_and_the_original_stays(norm: str) -> None:
    config, networks = tiny(**at("generator", norm=norm, refine_blocks=2, blend_masks=True))
    randomize_norms(networks)
    networks.eval()
    before = copy.deepcopy(networks.state_dict())
    copied = folded(networks)
    # Only a norm that stands before its convolution is left: the first of each residual.
    left = [name for name, part in copied.generator.named_modules() if isinstance(part, Affine2d | nn.BatchNorm2d)]
    assert left == ["refine.0.norm1", "refine.1.norm1"]

    pictures = torch.rand(3, 3, config.size, config.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        slow, fast = (net.detector(pictures) for net in (networks, copied))
        assert torch.allclose(slow.mean, fast.mean, atol=1e-5)
        source = Keypoints(*(part[:1].expand_as(part) for part in slow))
        made = [
            net.generator([f.expand(3, -1, -1, -1) for f in net.generator.encode(pictures[:1])], source, slow)
            for net in (networks, copied)
        ]
    assert torch.allclose(made[0].frame, made[1].frame, atol=1e-4)
    assert (made[0].frame - made[0].frame.mean()).abs().max() > 0.01
    assert all(torch.equal(value, networks.state_dict()[name]) for name, value in before.items())


def test_what_cannot_be_folded_is_refused() -> None:
    refuses("GroupNorm", fold_norm, nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2), error=TypeError)
