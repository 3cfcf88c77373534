"""Regions of masks, and a user's own detector. `find_object` itself is tested with the strokes that use it."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.data.object_detection import Box, ObjectDetector, connected_components, find_object
from stillmotion.geometry import reachable


def mask_of(*rows: str) -> torch.Tensor:
    return torch.tensor([[pixel == "#" for pixel in row] for row in rows])[None, None]


def test_components_are_connected_over_corners() -> None:
    mask = mask_of("##..#", "..#..", "#...#", "#....")
    found = sorted(component.tolist() for component in connected_components(mask))
    assert found == [[[0, 0], [0, 1], [1, 2]], [[0, 4]], [[2, 0], [3, 0]], [[2, 4]]]
    assert connected_components(torch.zeros(1, 1, 3, 3, dtype=torch.bool)) == []


def test_a_flood_fill_does_not_run_on_into_the_next_row() -> None:
    mask = mask_of("..##", "....", "##..")
    seed = mask_of("...#", "....", "....")
    assert torch.equal(reachable(mask, seed), mask_of("..##", "....", "...."))
    assert not reachable(mask, mask_of("#...", "....", "....")).any()  # a seed outside the mask


@given(st.integers(0, 2**32 - 1))
def test_what_is_reachable_are_the_components_that_hold_a_seed(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, 1, 9, 11, generator=generator) < 0.45
    seeds = torch.rand(1, 1, 9, 11, generator=generator) < 0.05
    wanted = torch.zeros_like(mask)
    for component in connected_components(mask):
        y, x = component.T
        wanted[0, 0, y, x] = seeds[0, 0, y, x].any()
    assert torch.equal(reachable(mask, seeds), wanted)


def test_a_function_is_a_detector() -> None:
    def whole(still: np.ndarray, near: tuple[float, float]) -> Box | None:
        return 0.0, 0.0, still.shape[1] - 1.0, still.shape[0] - 1.0

    detectors: list[ObjectDetector] = [whole, find_object]
    still = np.full((32, 40, 3), 90, np.uint8)
    still[8:20, 10:26] = 250
    assert [detector(still, (5.0, 5.0)) for detector in detectors] == [(0, 0, 39, 31), (10, 8, 25, 19)]
