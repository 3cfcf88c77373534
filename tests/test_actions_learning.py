"""facts/class-conditional-keypoints.md section 12, lines 19 and 20: it learns, and a whole performance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actions_tools import TINY, action_clips, actions_of, changed, picture, square_places, train
from stillmotion.data.clip import Clip
from stillmotion.systems.actions import Act, losses
from stillmotion.systems.actions.animating import Actions
from stillmotion.systems.actions.config import SequenceConfig
from stillmotion.systems.actions.data import TRACK, KeypointSequences, come_from, rigid_pairs, starts_of
from stillmotion.systems.actions.networks import ActionsNetworks

LEARNING = changed(
    TINY,
    actions=("left", "right"),
    encoder__width=8,
    translator__width=8,
    keypoints__sharpness=4.0,
    losses__gan=0.0,
    pairs__augmentation="none",
    pairs__gap=(2, 6),
    keypoints_training__steps=250,
    keypoints_training__batch=8,
    keypoints_training__learning_rate=3e-3,
    keypoints_training__schedule__kind="constant",
    norm_momentum=0.1,
    sequences__step=1,
    sequences__rotation=0,
    sequences__flip=0.0,
    motion__frames=6,
    motion__hidden=32,
    motion__mode="linear",
    motion_training__steps=150,
    motion_training__batch=8,
    motion_training__learning_rate=5e-3,
    motion_losses__gan=0.0,
    motion__sequence_discriminator=False,
)


class Shrunk(nn.Module):
    """Frames, and frames at a half and a quarter: stands for a VGG."""

    def forward(self, frames: Tensor) -> list[Tensor]:
        return [20 * frames, 20 * F.avg_pool2d(frames, 2), 20 * F.avg_pool2d(frames, 4)]


@pytest.mark.slow
def test_it_learns_where_the_square_is_and_which_way_an_action_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "perceptual_network", lambda _: Shrunk())
    torch.manual_seed(2)  # with 0 and 1 it learns less, how much depends on the processor's rounding
    clips = action_clips(8, frames=10, size=16, side=5)
    system = Actions.build(LEARNING)
    first, second = system.stages(clips)
    train(first, first.steps)
    networks: Any = system.networks.eval()
    assert isinstance(networks, ActionsNetworks)

    frames = np.concatenate([clip.frames for clip in clips])
    places, found = square_places(frames), system.detect_keypoints(frames)
    for axis in (0, 1):
        related = [abs(np.corrcoef(places[:, axis], found[:, k, axis])[0, 1]) for k in range(3)]
        assert max(related) > 0.8, (axis, related)

    with torch.no_grad():
        pair = torch.from_numpy(clips[1].frames[[0, 6]]).permute(0, 3, 1, 2) / 127.5 - 1
        made = networks(networks.encode(pair[:1]), networks.detector(pair[1:]))
    moved = (pair[0] != pair[1]).any(0)
    assert made.mask[0, 0][moved].mean() < made.mask[0, 0][~moved].mean() - 0.2  # open where the square is

    second.begin(tmp_path)
    train(second, second.steps)
    networks.eval()
    k = int(np.argmax([abs(np.corrcoef(places[:, 0], found[:, k, 0])[0, 1]) for k in range(3)]))
    sign = np.sign(np.corrcoef(places[:, 0], found[:, k, 0])[0, 1])
    still = torch.from_numpy(system.detect_keypoints(clips[0].frames[4:5]))
    latent = torch.zeros(1, LEARNING.motion.latent)
    ends = [sign * float(networks.motion.sample(still, torch.tensor([a]), latent)[0, -1, k, 0]) for a in (0, 1)]
    assert ends[0] < ends[1] - 0.1  # the same z: left is left of right


def test_a_whole_performance_has_32_frames_each_from_the_still() -> None:
    system = actions_of(changed(TINY, size=32, motion__frames=32))
    seen: list[Tensor] = []
    system.networks.translator.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    system.for_inference = lambda: system  # type: ignore[method-assign]
    still = picture((32, 32))
    frames = system.animate(still, Act("left"), size="model").frames()
    assert frames.shape == (33, 32, 32, 3)
    with torch.inference_mode():
        own = system.networks.encode(torch.from_numpy(still.copy()).permute(2, 0, 1)[None] / 127.5 - 1)
        assert all(torch.allclose(each, own.features.expand_as(each), atol=1e-4) for each in seen)
        made = system.networks(own, system.networks.detector(own.still))
    assert made.frame.abs().max() <= 1
    assert sum(len(each) for each in seen[:-1]) == 33


def test_a_pose_leads_to_an_action_as_it_is_seen_from_there() -> None:
    """Bends are seen from both sides, throws from the side alone; a pose from the front may lead to these."""
    bend, throw = 0, 1
    seen = [(bend, "front"), (bend, "side"), (throw, "side"), (2, "front")]
    assert starts_of((bend, "front"), seen) == [0, 3]
    assert starts_of((bend, "side"), seen) == [1, 2]
    assert starts_of((throw, "side"), seen) == [0, 1, 2, 3]
    assert starts_of((bend, None), [(bend, None), (throw, None)]) == [0, 1]
    shapes = (np.array([[-0.5, 0], [0, 1], [0, -1]]), np.array([[0.5, 0], [0, 1], [0, -1]]))
    frames = np.zeros((40, 8, 8, 3), np.uint8)
    clips = [
        Clip(f"{n}", frames, 25.0, {TRACK: np.repeat(shapes[n % 2][None], 40, 0)}, {"action": "a", "view": n % 2})
        for n in range(4)
    ]
    config = SequenceConfig(step=1, rotation=0, flip=0, scale=(1, 1), transition=8)
    dataset = KeypointSequences(clips, config, 33, 0, actions=("a",))
    for item in map(dataset.__getitem__, range(40)):
        assert float(item["first"][0, 0] * item["points"][-1, 0, 0]) > 0, item["name"]


def test_the_size_of_a_body_is_told_by_what_is_rigid() -> None:
    """Four keypoints: a trunk of two, and hands that go up; a pose with hands up is placed with a trunk as long."""
    rng = np.random.default_rng(0)
    trunk = np.array([[0, 0], [0, 1.0]])
    clips = [
        size * np.stack([np.concatenate([trunk, rng.normal(0, 2, (2, 2))]) for _ in range(9)]) for size in (1, 3)
    ]
    pairs = rigid_pairs(clips)
    assert pairs[0].tolist() == [0, 1]
    placed = come_from(clips[1][0], clips[0], 4, pairs[:1])
    np.testing.assert_allclose(placed[0, :2], trunk)
    np.testing.assert_allclose(placed[0, 2:], clips[1][0, 2:] / 3)
    assert len(rigid_pairs([np.zeros((2, 1, 2))])) == 0
    alone = come_from(np.ones((1, 2)), np.zeros((2, 1, 2)), 1, np.zeros((0, 2), int))
    assert alone.tolist() == [[[0, 0]], [[0, 0]]]
