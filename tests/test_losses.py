"""Shared losses: values worked out by hand."""

import math

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


def test_hinge_and_wasserstein_gan_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([[-3.0, 1.0]])
    assert losses.hinge_discriminator(real, fake).item() == pytest.approx((0 + 0.5) / 2 + (0 + 2) / 2)
    assert losses.hinge_generator(fake).item() == pytest.approx(1.0)
    assert losses.wgan_discriminator(real, fake).item() == pytest.approx(-1.0 - 1.25)
    assert losses.wgan_generator(fake).item() == pytest.approx(1.0)


def test_log_gan_by_hand() -> None:
    """At the logits 0 and log 3 the logistic function is 1/2 and 3/4."""
    zero, three = torch.zeros(2), torch.tensor([math.log(3)])
    assert losses.log_discriminator(three, zero).item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 2))
    assert losses.log_generator(three).item() == pytest.approx(-math.log(3 / 4))


def test_gan_losses_run_in_float32() -> None:
    fake = torch.full((100,), 0.3, dtype=torch.bfloat16)
    for name in ("hinge", "wgan", "lsgan", "log"):
        assert getattr(losses, f"{name}_generator")(fake).dtype == torch.float32
        assert getattr(losses, f"{name}_discriminator")(fake, fake).dtype == torch.float32


def test_the_gradient_penalty_of_a_linear_critic_is_its_norm_minus_one_squared() -> None:
    """Whatever the samples; the channels of a condition count in the norm."""
    weight = torch.tensor([3.0, 0.0, 4.0]).requires_grad_()
    real, fake = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(0))
    penalty = losses.gradient_penalty(lambda x: x @ weight, real, fake, torch.Generator())
    assert penalty.item() == pytest.approx((5 - 1) ** 2)
    penalty.backward()
    assert torch.allclose(weight.grad, 2 * (5 - 1) * torch.tensor([0.6, 0.0, 0.8]))


def test_the_gradient_penalty_is_taken_between_the_sides_with_one_share_per_sample() -> None:
    seen = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.square().sum((1, 2)) / 2  # its gradient is x itself

    real = torch.stack([torch.full((4, 2), 1.0), torch.full((4, 2), -0.3)], dim=1)[..., 0]  # B x (picture, condition)
    real, fake = real[..., None], torch.stack([torch.zeros(4), torch.full((4,), -0.3)], dim=1)[..., None]
    penalty = losses.gradient_penalty(critic, real, fake, torch.Generator().manual_seed(7))
    shares = torch.rand(4, generator=torch.Generator().manual_seed(7))
    assert torch.equal(seen[0][:, 0, 0], shares)  # from the fake 0 to the real 1
    assert torch.equal(seen[0][:, 1, 0], torch.full((4,), -0.3))  # the condition is not interpolated
    expected = (((shares**2 + 0.3**2).sqrt() - 1) ** 2).mean()
    assert penalty.item() == pytest.approx(expected.item())


def test_the_gradient_penalty_is_finite_where_the_gradient_is_zero() -> None:
    weight = torch.zeros(3, requires_grad=True)
    penalty = losses.gradient_penalty(lambda x: x @ weight, torch.ones(2, 3), torch.zeros(2, 3), torch.Generator())
    assert penalty.item() == 1
    penalty.backward()
    assert torch.isfinite(weight.grad).all()


def test_penalties_send_no_gradient_into_the_samples_and_work_without_grad() -> None:
    real, fake = torch.ones(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    weight = torch.ones(3, requires_grad=True)
    for penalty in (
        losses.gradient_penalty(lambda x: x.square() @ weight, real, fake, torch.Generator()),
        losses.r1_penalty(lambda x: x.square() @ weight, real),
    ):
        penalty.backward()
        assert real.grad is None
        assert fake.grad is None
    with torch.no_grad():
        assert losses.r1_penalty(lambda x: x.square() @ weight, real).item() == pytest.approx(3 * 4)


def test_r1_by_hand() -> None:
    """Scores w . x summed over a map of two: the gradient is (2, 4), its square 20, for every sample."""
    real = torch.rand(3, 2, generator=torch.Generator().manual_seed(0))
    assert losses.r1_penalty(lambda x: torch.stack([x @ torch.tensor([1.0, 2.0])] * 2, dim=1), real).item() == 20


def test_global_mean_of_one_process() -> None:
    total = torch.tensor(6.0, requires_grad=True)
    mean = losses.global_mean(total, torch.tensor(4.0))
    assert mean.item() == 1.5
    mean.backward()
    assert total.grad == 0.25
    assert losses.global_mean(torch.tensor(6.0), 4).item() == 1.5
    assert [losses.global_mean(torch.tensor(6.0), count).item() for count in (0.5, torch.tensor(0.5))] == [12, 12]
    assert losses.global_mean(torch.tensor(0.0), 0) == losses.global_mean(torch.tensor(0.0), torch.tensor(0.0)) == 0
    assert losses.global_mean(torch.tensor(1.0, dtype=torch.float64), 3).dtype == torch.float64


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
    torch.testing.assert_close(fake.grad, torch.full((1, 1, 2, 2), 0.5))


def test_feature_matching_may_be_squared_and_reach_the_real_side() -> None:
    fake, real = torch.tensor([1.0, 4.0]), torch.tensor([0.0, 1.0], requires_grad=True)
    loss = losses.feature_matching([fake], [real], [2.0], squared=True, attached=True)
    assert loss.item() == 2 * (1 + 9) / 2
    loss.backward()
    assert real.grad is not None
    assert real.grad.tolist() == [-2.0, -6.0]


def test_feature_matching_wants_one_weight_per_map() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        losses.feature_matching([torch.zeros(1)], [torch.zeros(1)], [1.0, 1.0])


def test_pyramid_by_hand() -> None:
    generated = torch.zeros(1, 1, 4, 4)
    target = torch.zeros(1, 1, 4, 4)
    target[0, 0, 0, 0], target[0, 0, 0, 1] = 1, -1
    assert losses.pyramid_l1(generated, target, levels=1).item() == pytest.approx(2 / 16)
    # The two cancel in the first halving: only the finest level sees them.
    assert losses.pyramid_l1(generated, target, levels=3).item() == pytest.approx(2 / 16 / 3)
    offset = torch.full((2, 3, 8, 8), 0.1)
    assert losses.pyramid_l1(offset, torch.zeros_like(offset)).item() == pytest.approx(0.1)
    assert losses.pyramid_l1(offset, offset) == 0


def test_gradients_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    generated = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=generator).requires_grad_()
    target = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=generator)
    assert gradcheck(lambda x: losses.pyramid_l1(x, target, levels=2), (generated,))


def test_weighted_l1_counts_each_pixel_by_its_weight():
    generated, target = torch.zeros(1, 3, 1, 2), torch.tensor([1.0, 2.0]).expand(1, 3, 1, 2)
    assert losses.weighted_l1(generated, target).item() == 1.5
    assert losses.weighted_l1(generated, target, torch.tensor([[[[2.0, 0.0]]]])).item() == 1.0  # (2 * 1 + 0 * 2) / 2


def test_pyramid_pools_the_weights_with_the_picture():
    generated, target = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    weights = torch.tensor([[[[8.0, 0.0], [0.0, 0.0]]]])
    # Full size: 8 * 1 / 4 = 2. Half size: the difference 1/4 with the weight 8/4.
    assert losses.pyramid_l1(generated, target, levels=2, weights=weights).item() == pytest.approx((2 + 0.5) / 2)


def test_motion_weights_count_what_changes_and_have_mean_one():
    source, target = torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4)
    target[..., 0] = 0.5  # far beyond `saturation`
    target[..., 1] = 0.05  # half of it
    weights = losses.motion_weights(source, target, gain=8)[0, 0, 0]
    assert torch.allclose(weights, torch.tensor([9.0, 5.0, 1.0, 1.0]) / 4)
    assert torch.equal(losses.motion_weights(source, target, gain=0), torch.ones(1, 1, 1, 4))


def test_motion_weights_of_one_process_are_divided_by_their_mean_to_the_last_bit():
    source, target = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    weights = 1 + 8 * losses.frame_difference(source, target, 0.5)
    assert torch.equal(losses.motion_weights(source, target, gain=8, saturation=0.5), weights / weights.mean())


def test_displacement_error_is_the_mean_end_point_error_where_it_counts() -> None:
    predicted = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [9.0, 9.0]]])[None]  # 1 x 1 x 3 x 2
    error = losses.displacement_error(predicted, torch.zeros(1, 1, 3, 2), torch.tensor([[[1.0, 3.0, 0.0]]]))
    assert error.item() == pytest.approx((1 * 5 + 3 * 1) / 4, abs=1e-3)
    assert losses.displacement_error(predicted, torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3)) == 0


def test_displacement_error_has_a_finite_gradient_at_zero() -> None:
    flow = torch.zeros(1, 2, 2, 2, requires_grad=True)
    losses.displacement_error(flow, torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2)).backward()
    assert flow.grad is not None
    assert torch.equal(flow.grad, torch.zeros_like(flow))


def test_source_cross_entropy_by_hand() -> None:
    """Three pixels: the first has a share of a half and counts once, the second a quarter and counts thrice."""
    shares = torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.1, 0.9]]).T[None, :, None]  # 1 x 2 x 1 x 3
    target = torch.tensor([[[0, 1, -100]]])
    expected = (math.log(2) + 3 * math.log(4)) / 4
    assert losses.source_cross_entropy(shares, target, (1.0, 3.0)).item() == pytest.approx(expected)
    assert losses.source_cross_entropy(shares, torch.full_like(target, -100), (1.0, 3.0)) == 0


def test_figure_cross_entropy_by_hand() -> None:
    """Three pixels: figure with a probability of 3/4, background with 1/5 of figure, and one that is not known."""
    logits = torch.tensor([0.75, 0.2, 0.01]).logit().view(1, 1, 1, 3).requires_grad_()
    figure = torch.tensor([1.0, 0.0, -1.0]).view(1, 1, 1, 3)
    loss = losses.figure_cross_entropy(logits, figure)
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.8)) / 2, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad.flatten(), torch.tensor([-0.25, 0.2, 0.0]) / 2)
    assert losses.figure_cross_entropy(logits, torch.full_like(figure, -1.0)) == 0


def test_a_closed_source_costs_a_finite_loss() -> None:
    shares = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert losses.source_cross_entropy(shares, torch.ones(1, 1, 1).long(), (1.0, 1.0)).isfinite()


def test_figures_that_are_not_known_cost_nothing_and_have_no_gradient() -> None:
    logits = torch.zeros(2, 1, 2, 2, requires_grad=True)
    figure = torch.full((2, 1, 2, 2), -1.0)
    losses.figure_cross_entropy(logits, figure).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))
    figure[0] = 1
    losses.figure_cross_entropy(logits, figure).backward()
    torch.testing.assert_close(logits.grad[0], torch.full((1, 2, 2), -0.5 / 4))  # 1/2 - 1, over the four known pixels
    assert (logits.grad[1] == 0).all()


def test_a_sure_and_wrong_figure_costs_a_finite_loss_in_bfloat16_too() -> None:
    logits = torch.full((1, 1, 2, 2), 200.0, dtype=torch.bfloat16)
    loss = losses.figure_cross_entropy(logits, torch.zeros(1, 1, 2, 2))
    assert loss.dtype == torch.float32
    assert loss == 200


def test_displacements_are_compared_with_their_target() -> None:
    predicted, target = torch.tensor([[[[3.0, 1.0]]]]), torch.tensor([[[[-1.0, 4.0]]]])
    assert losses.displacement_error(predicted, target, torch.ones(1, 1, 1)).item() == pytest.approx(5)
    assert losses.displacement_error(target, target, torch.ones(1, 1, 1)).item() == pytest.approx(1e-4)


def test_global_mean_of_two_processes_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process has a sum of 10 over 4. The gradient is twice that of the own part: `update` halves it."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.add_(torch.tensor([10.0, 4.0])))
    for count in (2.0, torch.tensor(2.0), torch.tensor(2), torch.tensor(2.0, dtype=torch.float64)):
        total = torch.tensor(6.0, requires_grad=True)
        mean = losses.global_mean(total, count)
        assert mean.dtype == torch.float32
        assert mean.item() == pytest.approx(16 / 6)
        mean.backward()
        assert total.grad is not None
        assert total.grad.item() == pytest.approx(2 / 6)
    half = losses.global_mean(torch.tensor(6.0, dtype=torch.bfloat16), 2)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(16 / 6)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: None)
    assert losses.global_mean(torch.ones((), device="meta"), 2.0).device.type == "meta"
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    assert losses.global_mean(torch.tensor(6.0), 2.0).item() == 3


def test_losses_are_computed_where_their_inputs_are() -> None:
    """On the device `meta`, which has no values, as they would be on a GPU."""
    picture, flow, one = (torch.ones(shape, device="meta") for shape in ((2, 3, 4, 4), (2, 4, 4, 2), (2, 1, 4, 4)))
    classes = torch.zeros(2, 4, 4, dtype=torch.int64, device="meta")
    made = [
        losses.feature_matching([picture], [picture], [1.0]),
        losses.pyramid_l1(picture, picture, levels=2, weights=one),
        losses.motion_weights(picture, picture, gain=2.0),
        losses.displacement_error(flow, flow, one[:, 0]),
        losses.source_cross_entropy(picture, classes, (1.0, 1.0, 1.0)),
        losses.figure_cross_entropy(one, one),
    ]
    assert {loss.device.type for loss in made} == {"meta"}
