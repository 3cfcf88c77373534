"""The refinement network, the video critic, and clips blended to videos."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stillmotion.rendering.fields import STATIC
from stillmotion.systems.structures.config import PRESETS
from stillmotion.systems.structures.refinement import (
    RefinementNetwork,
    VideoCritic,
    blend_clips,
    clip_context,
    clip_starts,
    refine,
    to_3d,
)
from structures_tools import TINY, changed, parameters, uniform

OURS = changed(TINY, forecast__fields=True, refinement__context=True, refinement__content="difference")


def refinement(seed: int = 0) -> RefinementNetwork:
    """A small network in eval mode, with weights that make a difference."""
    torch.manual_seed(seed)
    network = RefinementNetwork(TINY).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.normal_(module.weight, 0, 0.1)
    return network


def inputs(clips: int = 2, frames: int = 4) -> tuple[Tensor, Tensor]:
    return uniform(clips, frames, 3, 16, 16), uniform(clips, frames, 13, 16, 16, seed=1, low=0)


@pytest.mark.parametrize(("frames", "size", "critic"), [(32, 96, 11_072_449), (16, 64, 11_043_777)])
def test_sizes(frames: int, size: int, critic: int) -> None:
    """Line 16: clips of 32 at 96 pixels and of 16 at 64; U-Net of 24.70 M, critic of 11.07 M and 11.04 M."""
    config = changed(PRESETS["paper"], size=size, refinement__frames=frames)
    with torch.device("meta"):
        network, video_critic = RefinementNetwork(config), VideoCritic(config)
        clip, maps = torch.zeros(2, frames, 3, size, size), torch.zeros(2, frames, 3, size, size)
        output = network(clip, maps)
        score = video_critic(to_3d(clip, maps))
    assert output.frames.shape == output.content.shape == (2, frames, 3, size, size)
    assert output.mask.shape == (2, frames, 1, size, size)
    assert score.shape == (2, 1)
    convolutions = 64 * (6 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    ups = 64 * (512 * 256 + 512 * 128 + 256 * 64 + 128 * 4)
    biases, norms = 64 + 128 + 256 + 512 + 256 + 128 + 64 + 4, 2 * (128 + 256 + 512 + 256 + 128 + 64)
    assert parameters(network) == convolutions + ups + biases + norms
    assert round(parameters(network) / 1e6, 2) == 24.70
    assert parameters(video_critic) == critic


@torch.no_grad()
def test_a_clip_is_content_where_the_mask_is_and_the_forecast_elsewhere() -> None:
    """Line 16: Eq. 10; mask 0 returns the coarse clip exactly."""
    network, (coarse, maps) = refinement(), inputs()
    output = network(coarse, maps)
    torch.testing.assert_close(output.frames, output.mask * output.content + (1 - output.mask) * coarse)
    assert 0 < output.mask.min() < output.mask.max() < 1
    assert output.frames.abs().max() <= 1
    bias_of_mask = network.heads.bias[3:]  # type: ignore[index]
    network.heads.weight[:, 3:].zero_()
    for bias, expected in ((-200.0, coarse), (200.0, output.content)):
        bias_of_mask.fill_(bias)
        assert torch.equal(network(coarse, maps).frames, expected)


@torch.no_grad()
def test_clips_are_refined_alone_and_read_all_their_frames_and_maps() -> None:
    network, (coarse, maps) = refinement(), inputs()
    whole = network(coarse, maps)
    torch.testing.assert_close(network(coarse[1:], maps[1:]).frames, whole.frames[1:])
    later, other = coarse.clone(), maps.clone()
    later[:, 3] = 0.5
    other[:, 3] = 0
    for changes in (network(later, maps), network(coarse, other)):
        assert (changes.content - whole.content)[:, 0].abs().max() > 1e-6


@torch.no_grad()
def test_skips_join_maps_of_the_same_size() -> None:
    network = refinement()
    seen: list[Tensor] = []
    network.heads.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    first: list[Tensor] = []
    network.down[0].register_forward_hook(lambda _, __, out: first.append(out))
    network(*inputs())
    assert seen[0].shape == (2, 4 + 4, 2, 8, 8)
    assert torch.equal(seen[0][:, 4:], first[0])
    assert isinstance(network.down[0].norm, nn.Identity)


@torch.no_grad()
def test_statistics_are_over_time_too() -> None:
    """Time is folded into the rows; the result is that of a 3-D batch norm."""
    network = refinement().train()
    block: Any = network.up[0]
    reference = nn.BatchNorm3d(4).train()
    reference.load_state_dict(block.norm.state_dict())
    x = uniform(2, 8, 1, 4, 4)
    torch.testing.assert_close(block(x), torch.relu(reference(block.conv(x))))


@torch.no_grad()
def test_the_video_critic_scores_each_clip_by_its_frames_and_maps() -> None:
    torch.manual_seed(0)
    critic = VideoCritic(TINY)
    coarse, maps = inputs()
    samples = to_3d(coarse, maps)
    assert samples.shape == (2, 16, 4, 16, 16)
    assert torch.equal(samples[1, :3, 2], coarse[1, 2])
    assert torch.equal(samples[1, 3:, 2], maps[1, 2])
    torch.testing.assert_close(critic(samples)[1:], critic(samples[1:]))
    assert not torch.equal(critic(samples), critic(to_3d(coarse.flip(1), maps.flip(1))))
    assert not torch.equal(critic(samples), critic(to_3d(coarse, maps.flip(1))))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in critic.modules())


# --- ours -----------------------------------------------------------------------------------------------------------
def ours() -> tuple[RefinementNetwork, list[Tensor]]:
    """Ours with weights that make a difference, and what it reads: in the upper half pixels are the still's own."""
    torch.manual_seed(0)
    network = RefinementNetwork(OURS).eval()
    nn.init.normal_(network.heads.change.weight, 0, 0.1)  # type: ignore[union-attr, arg-type]
    shares = uniform(2, 4, 4, 16, 16, seed=2, low=0).softmax(2)
    shares[:, :, :, :8] = 0.01
    shares[:, :, STATIC, :8] = 0.97
    return network, [*inputs(), clip_context(uniform(2, 3, 16, 16, seed=3), shares)]


@torch.no_grad()
def test_ours_starts_at_the_forecast_and_leaves_the_stills_own_pixels_alone() -> None:
    network, given = ours()
    assert torch.equal(RefinementNetwork(OURS)(*given).frames, given[0])
    output = network(*given)
    assert torch.equal(output.frames[:, :, :, :8], given[0][:, :, :, :8])
    assert output.mask[:, :, :, :8].max() == 0
    assert (output.frames - given[0])[:, :, :, 8:].abs().mean() > 0.01
    assert output.frames.abs().max() <= 1


@torch.no_grad()
def test_ours_reads_the_still_and_the_sources_at_full_size() -> None:
    network, given = ours()
    whole = network(*given).content
    for channel in range(7):
        other = given[2].clone()
        other[:, :, channel, 12, 12] += 0.5
        seen = (network(*given[:2], other).content - whole).abs().amax((0, 1, 2))
        assert seen[12, 12] > 1e-4, channel


@torch.no_grad()
def test_pixels_are_drawn_to_what_is_at_hand() -> None:
    """By a bias each, one alternative shows: the frame before the last, the next one, the still."""
    network, (coarse, maps, context) = RefinementNetwork(OURS), ours()[1]
    for number, expected in ((0, coarse[:, [0, 0, 0, 1]]), (2, coarse[:, [1, 2, 3, 3]]), (4, context[:, :, :3])):
        network.heads.change.bias.zero_()  # type: ignore[union-attr, operator]
        network.heads.change.bias[number] = 1.0  # type: ignore[union-attr, index]
        torch.testing.assert_close(network(coarse, maps, context).content, expected)


def test_ours_can_learn_a_clip_by_heart() -> None:
    """Within 40 steps, as far as pixels are not the still's own."""
    torch.manual_seed(0)
    network, (coarse, *known) = RefinementNetwork(OURS), ours()[1]
    true = coarse.clone()
    true[:, :, :, 8:] *= 0.3
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        loss = (network(coarse, *known).frames - true).abs().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss < 0.5 * (coarse - true).abs().mean()


# --- longer videos --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("frames", "length", "overlap", "starts"),
    [(16, 16, 4, [0]), (17, 16, 4, [0, 1]), (28, 16, 4, [0, 12]), (29, 16, 4, [0, 12, 13]), (32, 16, 0, [0, 16])],
)
def test_clips_cover_the_video(frames: int, length: int, overlap: int, starts: list[int]) -> None:
    assert clip_starts(frames, length, overlap) == starts


def test_overlapping_clips_fade_into_each_other() -> None:
    clips = [torch.full((1, 4, 1), float(value)) for value in (0, 3, 7)]
    video = blend_clips(clips, [0, 2, 6])
    assert video.flatten().tolist() == [0, 0, 1, 2, 3, 3, 7, 7, 7, 7]
    assert torch.equal(blend_clips(clips[:1], [0]), clips[0])


def test_what_clips_agree_on_stays() -> None:
    video = uniform(2, 29, 3, 4, 4)
    starts = clip_starts(29, 16, 4)
    torch.testing.assert_close(blend_clips([video[:, t : t + 16] for t in starts], starts), video)


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 11])
@torch.no_grad()
def test_videos_of_any_length_are_refined(frames: int) -> None:
    network, (coarse, maps) = refinement(), inputs(frames=frames)
    with_context = clip_context(coarse[:, 0], uniform(2, frames, 4, 16, 16, low=0))
    assert refine(ours()[0], coarse, maps, 4, 1, with_context).shape == coarse.shape
    found = refine(network, coarse, maps, 4, 1)
    assert found.shape == coarse.shape
    if frames <= 4:  # the last frame is repeated
        pad = [min(t, frames - 1) for t in range(4)]
        assert torch.equal(found, network(coarse[:, pad], maps[:, pad]).frames[:, :frames])
    else:
        torch.testing.assert_close(found[:, :1], network(coarse[:, :4], maps[:, :4]).frames[:, :1])
        torch.testing.assert_close(found[:, -1:], network(coarse[:, -4:], maps[:, -4:]).frames[:, -1:])
