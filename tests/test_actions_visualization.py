"""Layers and sheets of `actions`, and how far samples differ."""

from typing import Any

import numpy as np
import pytest
import torch

from actions_tools import TINY, TINY_FIELDS, action_clips, actions_of, changed
from stillmotion.systems.actions.visualization import draw_translation, track_sheet, translation_sheet


def test_layers_of_a_translated_frame_are_enlarged() -> None:
    seen, painted = torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)
    kept = (torch.arange(32) >= 16).float().expand(1, 1, 32, 32)
    layers = draw_translation(seen, painted, kept, torch.tensor([[0.0, 0.0]]))
    assert list(layers) == ["keypoints", "mask", "synthesized"]
    assert all(each.shape == (256, 256, 3) for each in layers.values())
    assert (layers["mask"][:, 128:] == 255).all()
    assert not layers["mask"][:, :128].any()
    assert np.ptp(layers["synthesized"]) == 0
    y, x = np.nonzero(layers["keypoints"].any(-1))
    assert (abs(y.mean() - 127.5), abs(x.mean() - 127.5)) < (1.5, 1.5)


@pytest.mark.parametrize("mask", [True, False])
def test_translations_have_a_row_per_clip_and_leave_the_networks_mode(mask: bool) -> None:
    networks = actions_of(changed(TINY, size=32, translator__mask=mask)).networks.train()
    sheet = translation_sheet(networks, action_clips(3), scale=2)  # type: ignore[arg-type]
    assert sheet.shape == (3 * 64, 5 * 64, 3)
    assert networks.training
    if not mask:
        assert not sheet[:, 128:192].any()


def items(points: list[list[float]], actions: list[int]) -> list[dict[str, Any]]:
    """Clips whose three keypoints all go to the right by some way, evenly."""
    first = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]])
    found = []
    for way, action in zip(points, actions, strict=True):
        moved = first + torch.tensor(way)[:, None, None] * torch.tensor([1.0, 0.0])
        found.append({"first": first, "points": moved, "action": action})
    return found


def test_tracks_have_a_row_per_item_and_diversity_compares_with_real_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    from stillmotion.keypoints.networks import Keypoints
    from stillmotion.systems.actions import visualization

    system = actions_of(changed(TINY, size=32))
    ways = iter([0.0, 0.1, 0.2, 0.5, 0.1, 0.2] * 2)

    def made(networks: Any, config: Any, past: Keypoints, *_: Any) -> Keypoints:
        mean = past.mean[0, 0] + next(ways) * torch.ones(4, 3, 2) * torch.tensor([1.0, 0.0])
        return Keypoints(mean, torch.zeros(4, 3, 2, 2))

    monkeypatch.setattr(visualization, "next_window", made)
    real = items([[0.0] * 4, [0.4] * 4, [0.9] * 4], [0, 0, 1])
    sheet, ratio = track_sheet(system.networks, system.config, real, side=40)
    assert sheet.shape == (3 * 40, 3 * 40, 3)
    # Samples differ by 0.1, 0.3 and 0.1, the two real clips of action 0 by 0.4; over x and y alike.
    assert ratio == pytest.approx((0.5 / 3) / 0.4, rel=1e-5)
    assert track_sheet(system.networks, system.config, items([[0.0] * 4, [0.4] * 4], [0, 1]))[1] is None


def test_tracks_of_both_kinds_of_networks_are_drawn(tmp_path: Any) -> None:
    system = actions_of(TINY_FIELDS)
    stage = system.stages(action_clips(), only=["motion"])[0]
    stage.begin(tmp_path)
    sheet, ratio = track_sheet(system.networks, system.config, [stage.dataset[i] for i in range(4)], side=40)
    assert sheet.shape == (4 * 40, 3 * 40, 3)
    assert ratio is not None
    assert ratio > 0
