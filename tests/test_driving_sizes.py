"""Flow, heat maps and frames at the sizes where they are wanted, resized as the configuration says."""

import pytest
import torch

from driving_tools import at, same_pose, tiny
from stillmotion import geometry
from stillmotion.keypoints.networks import Motion, gather_inputs, heatmaps, shrink


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_the_flow_is_resized_as_the_configuration_says(mode: str) -> None:
    """A flow at half the size that differs from pixel to pixel, for the maps at four sizes."""
    config, networks = tiny(**at("motion", scale=0.5), **at("generator", flow_resize=mode))
    generator, skips = networks.generator, []
    motion = Motion(0.3 * torch.randn(1, 32, 32, 2, generator=torch.Generator().manual_seed(0)), None)
    generator.motion = lambda *_: motion
    generator.decoder.register_forward_pre_hook(lambda _, inputs: skips.extend(inputs[0]))
    features, pose = generator.encode(torch.rand(1, 3, 64, 64)), same_pose(2)
    source, target = pose.rows(slice(1)), pose.rows(slice(1, None))
    generator.decode(features, source, target)
    heat = heatmaps(target, config) - heatmaps(source, config)
    grid = geometry.identity_grid((32, 32)) + motion.displacement
    for skip, feature in zip(skips, features, strict=True):
        size = (feature.shape[2], feature.shape[3])
        warped = geometry.warp(feature, geometry.resize_grid(grid, size, mode))
        expected = torch.cat([warped, geometry.resize_map(heat, size, mode)], dim=1)
        torch.testing.assert_close(skip, expected)


@pytest.mark.parametrize("mode", ["nearest", "area"])
def test_frames_are_shrunk_as_the_configuration_says(mode: str) -> None:
    """Every second pixel from the first on (release), or the mean of four, for the detector and for M."""
    config, networks = tiny(**at("motion", scale=0.5, shrink=mode))
    frames = torch.rand(2, 3, 64, 64)
    expected = frames[..., ::2, ::2] if mode == "nearest" else torch.nn.functional.avg_pool2d(frames, 2)
    torch.testing.assert_close(shrink(frames, config), expected)
    seen: list[torch.Tensor] = []
    networks.detector.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert networks.generator.dense_motion is not None
    networks.generator.dense_motion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    networks(gather_inputs(networks, frames[:1], frames[1:]))
    torch.testing.assert_close(seen, [expected, expected[:1]])
