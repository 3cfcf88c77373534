"""Shared losses: values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from stillmotion import losses


def test_least_squares_gan_by_hand() -> None:
    real, fake = torch.tensor([1.0, 0.0]), torch.tensor([[0.5, -1.0]])
    assert losses.lsgan_discriminator(real, fake).item() == pytest.approx(0.5 + (0.25 + 1) / 2)
    assert losses.lsgan_generator(fake).item() == pytest.approx((0.25 + 4) / 2)
    assert losses.lsgan_discriminator(torch.ones(3), torch.zeros(3)) == 0
    assert losses.lsgan_generator(torch.ones(3)) == 0


def test_gan_losses_run_in_float32() -> None:
    fake = torch.full((100,), 0.3, dtype=torch.bfloat16)
    assert losses.lsgan_generator(fake).dtype == torch.float32
    assert losses.lsgan_discriminator(fake, fake).dtype == torch.float32


def test_feature_matching_by_hand() -> None:
    fake = [torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 1, 1)]
    real = [torch.full((1, 2, 2, 2), 0.5), torch.full((1, 1, 1, 1), -3.0)]
    assert losses.feature_matching(fake, real, [10, 1]).item() == pytest.approx(10 * 0.5 + 3)
    assert losses.feature_matching(fake, real, [10, 0]).item() == pytest.approx(5)
    assert losses.feature_matching(fake, real, [0, 0]).item() == 0


def test_changing_the_last_map_counts_with_its_own_weight() -> None:
    fake, real = [torch.zeros(1, 1, 2, 2)] * 5, [torch.zeros(1, 1, 2, 2)] * 5
    for place, weight in enumerate((10, 10, 10, 10, 1)):
        changed = [*real[:place], torch.ones(1, 1, 2, 2), *real[place + 1 :]]
        assert losses.feature_matching(fake, changed, (10, 10, 10, 10, 1)).item() == weight


def test_feature_matching_holds_the_real_side_constant() -> None:
    fake, real = torch.ones(1, 1, 2, 2, requires_grad=True), torch.zeros(1, 1, 2, 2, requires_grad=True)
    losses.feature_matching([fake], [real], [2.0]).backward()
    assert real.grad is None
    assert fake.grad is not None
    torch.testing.assert_close(fake.grad, torch.full((1, 1, 2, 2), 0.5))


def test_feature_matching_wants_one_weight_per_map() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        losses.feature_matching([torch.zeros(1)], [torch.zeros(1)], [1.0, 1.0])


def test_pyramid_by_hand() -> None:
    made = torch.zeros(1, 1, 4, 4)
    truth = torch.zeros(1, 1, 4, 4)
    truth[0, 0, 0, 0], truth[0, 0, 0, 1] = 1, -1
    assert losses.pyramid_l1(made, truth, levels=1).item() == pytest.approx(2 / 16)
    # The two cancel in the first halving: only the finest level sees them.
    assert losses.pyramid_l1(made, truth, levels=3).item() == pytest.approx(2 / 16 / 3)
    offset = torch.full((2, 3, 8, 8), 0.1)
    assert losses.pyramid_l1(offset, torch.zeros_like(offset)).item() == pytest.approx(0.1)
    assert losses.pyramid_l1(offset, offset) == 0


def test_gradients_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    made = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=generator).requires_grad_()
    truth = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=generator)
    assert gradcheck(lambda x: losses.pyramid_l1(x, truth, levels=2), (made,))


def test_weighted_l1_counts_each_pixel_by_its_weight():
    made, truth = torch.zeros(1, 3, 1, 2), torch.tensor([1.0, 2.0]).expand(1, 3, 1, 2)
    assert losses.weighted_l1(made, truth).item() == 1.5
    assert losses.weighted_l1(made, truth, torch.tensor([[[[2.0, 0.0]]]])).item() == 1.0  # (2 * 1 + 0 * 2) / 2


def test_pyramid_pools_the_weights_with_the_picture():
    made, truth = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    weights = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]]]])
    # Full size: 4 * 1 / 4 = 1. Half size: the difference 1/4 with the weight 4/4.
    assert losses.pyramid_l1(made, truth, levels=2, weights=weights).item() == pytest.approx((1 + 0.25) / 2)


def test_moving_weights_count_what_changes_and_have_mean_one():
    source, target = torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4)
    target[..., 0] = 0.5  # far beyond `full`
    target[..., 1] = 0.05  # half of it
    weights = losses.moving_weights(source, target, focus=8)[0, 0, 0]
    assert torch.allclose(weights, torch.tensor([9.0, 5.0, 1.0, 1.0]) / 4)
    assert torch.equal(losses.moving_weights(source, target, focus=0), torch.ones(1, 1, 1, 4))
