"""Every loss of a time step by hand, crops, and the perceptual network (checklist 15)."""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from refusals import refuses
from stillmotion import losses
from stillmotion.files import save_tensors
from stillmotion.nn import vgg
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, WARPED, Fields
from stillmotion.systems.strokes.config import PRESETS, StrokesConfig
from stillmotion.systems.strokes.losses import (
    Discriminators,
    copy_baseline,
    crop,
    crop_corners,
    frame_discriminator_loss,
    frame_score,
    generator_losses,
    pair_discriminator_loss,
    perceptual_input,
    perceptual_network,
    pixel_weights,
    reconstruction_losses,
    truth_losses,
)
from stillmotion.systems.strokes.networks import FrameDiscriminator, StrokesNetworks
from stillmotion.systems.strokes.object_frame import GeneratorOutput, ObjectFrame
from strokes_tools import TINY_FIELDS, TINY_OBJECT, TINY_RELEASE, block, changed, predict_by_hand, random_still
from strokes_training_tools import NOWHERE, flat, outputs_of, targets_of


# --- losses --------------------------------------------------------------------------------------------------------
def only(**weights: Any) -> StrokesConfig:
    """All weights are zero but those given."""
    names = ("reconstruction", "autoencoding", "crop", "gan", "pair_gan", "unblended", "motion_weighting")
    zero = {f"losses__{name}": 0.0 for name in names}
    return changed(TINY_FIELDS, **{**zero, **{f"losses__{name}": value for name, value in weights.items()}})


def test_reconstruction_terms_by_hand() -> None:
    """Checklist 15: frame 0.5, truth -0.5, auto-encoded 0.25, generated 0; every mean is over equal pixels."""
    targets, outputs, rebuilt = targets_of(truth=-0.5), outputs_of(0.5), flat(0.25)
    config = only(reconstruction=30.0, autoencoding=20.0, unblended=2.0)
    terms = generator_losses(outputs, rebuilt, targets, None, Discriminators(), config)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"reconstruction": 30 * 1.0, "autoencoding": 20 * 0.75**2, "unblended": 2 * 0.25}
    )
    literal = only(autoencoding=20.0, autoencoding_target="predicted")
    terms = generator_losses(outputs, rebuilt, targets, None, Discriminators(), literal)
    assert terms["autoencoding"].item() == pytest.approx(20 * 0.25**2)
    absolute = only(reconstruction=30.0, distance="absolute")
    terms = generator_losses(outputs_of(0.25), None, targets, None, Discriminators(), absolute)
    assert terms["reconstruction"].item() == pytest.approx(30 * 0.75)


def test_what_differs_from_the_still_counts_more() -> None:
    """Half of the pixels move: weights 1 and 1 + 3, over their mean 2.5. The frame is wrong by 1 in a moving one."""
    config = only(reconstruction=1.0, motion_weighting=3.0)
    truth, frame = flat(0.0), flat(0.0)
    truth[..., 0] = 1.0  # the still is 0: the left column moved
    frame[..., 0] = truth[..., 0]
    frame[..., 0, 0] = 0.0
    targets = targets_of()._replace(target=truth)
    terms = generator_losses(outputs_of(frame), None, targets, None, Discriminators(), config)
    assert terms["reconstruction"].item() == pytest.approx((4 / 2.5) / 4)
    baseline = copy_baseline(targets.still, truth, NOWHERE, config.losses)
    assert baseline.item() == pytest.approx(2 * (4 / 2.5) / 4)


def test_what_neither_the_still_nor_the_moved_still_shows_counts_more() -> None:
    """One row of four: unchanged, uncovered and shown by the moved still, moved, and to be generated."""
    config = only(motion_weighting=1.0, disocclusion_weighting=4.0)
    still, truth = torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4)
    still[..., 1] = 1.0  # an object, and the stroke goes one pixel to the right
    truth[..., 2] = 1.0
    truth[..., 3] = 1.0  # a limb that the still does not have there
    moved = ObjectFrame(torch.zeros(1, 2), 1.0, torch.tensor([[2 / 3, 0.0]]))
    weights = pixel_weights(still, truth, moved, config.losses)
    wanted = torch.tensor([1.0, 2, 2, 6]) / 2.75
    torch.testing.assert_close(weights[0, 0, 0], wanted)


def test_weights_have_a_mean_of_one_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another process, with as many pixels, had weights that sum up to three times as much."""
    config, still, truth = only(motion_weighting=3.0), torch.zeros(1, 3, 1, 2), torch.tensor([[[[0.0, 1.0]]] * 3])
    monkeypatch.setattr(losses, "global_mean", lambda total, count: (total + 3 * total) / (2 * count))
    found = pixel_weights(still, truth, NOWHERE, config.losses)
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([1.0, 4.0]) / 5)


def test_paint_alone_has_a_weight_of_its_own() -> None:
    """Frame 0.5, with paint alone 0, truth -0.5."""
    targets, outputs = targets_of(truth=-0.5), outputs_of(0.5)
    weights = only(reconstruction=30.0, unblended=2.0).losses
    terms = reconstruction_losses(outputs.generated, targets.still, targets.target, NOWHERE, weights)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"reconstruction": 30 * 1.0, "unblended": 2 * 0.25}
    )


# --- the fields against what clips know ----------------------------------------------------------------------------
def truth_terms(
    fields: Fields, known: dict[str, Tensor], config: StrokesConfig = TINY_FIELDS, t: int = 0, **weights: float
) -> dict[str, float]:
    """The terms of frame t + 1; its still is noise, and its object at (8, 9)."""
    model = StrokesNetworks(changed(config, **{f"losses__{name}": value for name, value in weights.items()}))
    points = torch.tensor([[[8.0, 9.0], [8.0, 9.0]]])
    context, frame = model.begin(random_still(), points), torch.zeros(1, 3, 2, 2)
    output = GeneratorOutput(frame, frame, fields)
    return {k: v.item() for k, v in truth_losses(model, context, output, {"points": points, **known}, t).items()}


FOUR = Fields(
    torch.zeros(1, 2, 2, 2),
    torch.tensor([[0.5, 0.1, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4], [0.1, 0.3, 0.2, 0.4], [0.25, 0.25, 0.25, 0.25]])
    .T.reshape(1, 4, 2, 2)
    .contiguous(),
    torch.zeros(1, 3, 2, 2),
)
"""Shares of the sources of four pixels, the first of them half moved still."""


def test_displacements_count_where_something_moves_and_is_known() -> None:
    """Two frames; in the second one pixel of four moves by (0.3, 0.4), and the head says nowhere."""
    true, moving = torch.full((1, 2, 2, 2, 2), 9.0), torch.zeros(1, 2, 2, 2)
    true[0, 1, 0, 1], moving[0, 1, 0, 1] = torch.tensor([0.3, 0.4]), 1
    known = {"displacement": true, "moving": moving}
    assert truth_terms(FOUR, known, t=1, displacement=3.0) == pytest.approx({"displacement": 3 * 0.5}, rel=1e-4)
    assert truth_terms(FOUR, known, t=0, displacement=3.0) == {"displacement": 0}  # nothing of it is known


def test_static_and_plate_are_one_class_and_paint_counts_twice() -> None:
    """A moved pixel, two of the background (which of its sources is not asked for), and a painted one."""
    shown = torch.tensor([[[[WARPED, PLATE], [STATIC, PAINT]]]])
    logs = math.log(0.5) + math.log(0.2 + 0.3) + math.log(0.3 + 0.2) + 2 * math.log(0.25)
    assert truth_terms(FOUR, {"visibility": shown}, visibility=3.0) == pytest.approx({"visibility": -3 * logs / 5})
    shown[0, 0, 1] = -100  # the second row is not known
    logs = math.log(0.5) + math.log(0.5)
    assert truth_terms(FOUR, {"visibility": shown}, visibility=1.0) == pytest.approx({"visibility": -logs / 2})
    assert truth_terms(FOUR, {"visibility": torch.full_like(shown, -100)}, visibility=1.0) == {"visibility": 0}


def test_a_figure_counts_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head says 3/4 everywhere: of the half that is known, a quarter is figure."""
    predict_by_hand(monkeypatch, FOUR, torch.full((32, 32), 0.75))
    known = torch.zeros(1, 1, 32, 32)
    known[..., :4], known[..., 16:] = 1, -1
    wanted = -(math.log(0.75) + 3 * math.log(0.25)) / 4
    assert truth_terms(FOUR, {"figure": known}, figure=2.0) == pytest.approx({"figure": 2 * wanted}, rel=1e-4)
    assert truth_terms(FOUR, {"figure": torch.full_like(known, -1.0)}, figure=2.0) == {"figure": 0}


def test_a_figure_is_compared_where_the_networks_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a zoom of 2 the 4 x 4 pixels around the first point, (8, 9), are the 8 x 8 in the middle of the view."""
    figure = torch.zeros(1, 1, 32, 32)
    figure[..., 7:11, 6:10] = 1
    predict_by_hand(monkeypatch, FOUR, block(12, 12, 20, 20).clamp(1e-4, 1 - 1e-4))
    for config, low, high in ((changed(TINY_OBJECT, generator__crop_zoom=2.0), 0.0, 0.3), (TINY_FIELDS, 0.5, 9.0)):
        assert low < truth_terms(FOUR, {"figure": figure}, config, figure=1.0)["figure"] < high


def test_without_a_weight_nothing_is_asked_of_the_clips() -> None:
    assert truth_terms(FOUR, {}) == {}
    known = {"visibility": torch.zeros(1, 1, 2, 2, dtype=torch.int64)}
    assert set(truth_terms(FOUR, known, visibility=1.0)) == {"visibility"}


def test_log_losses_by_hand() -> None:
    """Checklist 15: with a score of 0 everything is log 2; the generator's form does not saturate."""
    zero, score = torch.zeros(2, 1), torch.tensor([[math.log(3)]])  # s(log 3) = 3/4
    assert losses.log_discriminator(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.log_discriminator(score, zero).item() == pytest.approx(-math.log(3 / 4) + math.log(2))
    assert losses.log_discriminator(zero, score).item() == pytest.approx(math.log(2) - math.log(1 / 4))
    assert losses.log_generator(score).item() == pytest.approx(-math.log(3 / 4))


class Mean(nn.Module):
    """A discriminator whose score is the mean of the first picture it is shown."""

    crop = None
    conditioned = False

    def forward(self, frame: Tensor, *_: Any) -> Tensor:
        return frame.mean(dim=(1, 2, 3))[:, None]


def test_adversarial_terms_by_hand() -> None:
    """Checklist 15: frame 1, truth -1, weights 2 and 3."""
    scored: Any = Mean()
    outputs, targets = outputs_of(1.0), targets_of(truth=-1.0)
    soft = math.log(1 + math.exp(-1))  # -log s(1)
    found = Discriminators(scored, scored)
    terms = generator_losses(outputs, None, targets, targets.still, found, only(gan=2.0, pair_gan=3.0))
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"gan": 2 * soft, "pair_gan": 3 * soft}
    )
    wrong = 2 * math.log(1 + math.exp(1))  # real scored -1, fake scored 1: -log s(-1), twice
    assert frame_discriminator_loss(scored, outputs, targets).item() == pytest.approx(wrong)
    assert pair_discriminator_loss(scored, outputs, targets, targets.still).item() == pytest.approx(wrong)


def test_d1_is_conditioned_on_x_t_and_sends_no_gradient_to_e2() -> None:
    config = changed(TINY_RELEASE, discriminators__motion_condition=True, discriminators__crop_branch=False)
    network, size = FrameDiscriminator(config), config.size
    motion = torch.randn(1, 16, size // 8, size // 8, requires_grad=True)
    outputs = outputs_of(0.5, size)._replace(motion=motion)
    score = frame_score(network, flat(0.5, size), outputs, targets_of(size))
    other = frame_score(network, flat(0.5, size), outputs._replace(motion=motion + 1), targets_of(size))
    assert not torch.equal(score, other)
    score.sum().backward()
    assert motion.grad is None


@pytest.mark.parametrize(
    ("preset", "weights"),
    [
        ("paper", {"reconstruction": 20, "autoencoding": 20, "crop": 0, "gan": 1, "pair_gan": 1}),
        ("release", {"reconstruction": 30, "autoencoding": 20, "crop": 50, "gan": 1, "pair_gan": 1}),
    ],
)
def test_presets_have_the_sheets_weights(preset: str, weights: dict[str, float]) -> None:
    """Checklist 15."""
    config = PRESETS[preset]
    perceptual, discriminators, stage = config.losses.perceptual, config.discriminators, config.single_step
    assert {name: getattr(config.losses, name) for name in weights} == weights
    assert (perceptual.weight, perceptual.layers) == (10, (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2))
    assert (perceptual.distance, perceptual.region) == (
        ("square", "frame") if preset == "paper" else ("absolute", "crop")
    )
    assert config.losses.distance == "square"
    assert (discriminators.crop_branch, discriminators.pair_sees_step, discriminators.motion_condition) == (
        (False, False, True) if preset == "paper" else (True, True, False)
    )
    assert (stage.learning_rate, stage.beta1, config.clip.frames, stage.batch) == (2e-4, 0.5, 17, 4)


# --- crops ---------------------------------------------------------------------------------------------------------
def test_crops_are_half_the_side_near_the_point_and_inside() -> None:
    """Sheet 4.3, at 256: the centre is clamped to [64, 192], and one coordinate is shifted by -64 to 64."""
    point = torch.tensor([[100.0, 120.0]])
    corners = crop_corners(point.expand(400, 2), 256, torch.Generator().manual_seed(0))
    x, y = corners.T
    centre = (120 + 32, 100 + 32)  # as in the release: x is the row's number plus 32, y the column's
    assert (y == centre[1] - 64).all()
    assert int(x.min()) == max(centre[0] - 64, 64) - 64
    assert int(x.max()) == min(centre[0] + 64, 192) - 64
    assert len(x.unique()) > 60
    far = crop_corners(torch.tensor([[-50.0, 900.0]]), 256, torch.Generator().manual_seed(0))
    assert sorted(far[0].tolist()) == [0, 128]


def test_a_crop_is_the_window_that_begins_at_x_y() -> None:
    pictures = torch.arange(2 * 16.0).view(2, 1, 4, 4)
    cut = crop(pictures, torch.tensor([[2, 1], [0, 2]]))
    assert cut[:, 0].tolist() == [[[6, 7], [10, 11]], [[24, 25], [28, 29]]]


def test_the_crop_loss_sees_the_crop_alone_on_both_sides() -> None:
    frame = flat(0.0, 4)
    frame[..., 2:, 2:] = 0.5
    for corner, loss in (((0, 0), 0.0), ((2, 2), 50 * 0.25), ((1, 2), 50 * 0.125)):
        targets = targets_of(4)._replace(corners=torch.tensor([corner]))
        terms = generator_losses(outputs_of(frame, 4), None, targets, None, Discriminators(), only(crop=50.0))
        assert terms["crop"].item() == pytest.approx(loss)


# --- the perceptual network ----------------------------------------------------------------------------------------
@pytest.fixture
def narrow_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layers with few channels."""
    monkeypatch.setattr(vgg, "_WIDTHS", (2, 3, 4, 5, 6))


@pytest.mark.parametrize(("depth", "parameters", "last"), [(16, 14_714_688, 28), (19, 20_024_384, 34)])
def test_vgg_has_torchvisions_names_and_counts(depth: int, parameters: int, last: int) -> None:
    with torch.device("meta"):
        network = vgg.VGG(depth)
    assert sum(p.numel() for p in network.parameters()) == parameters
    names = [name for name, _ in network.named_parameters()]
    assert names[:4] == ["features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias"]
    assert names[-1] == f"features.{last}.bias"
    assert [i + 1 for i in network.feature_layers] == [4, 9, 16, 23, 30] if depth == 16 else [4, 9, 18, 27, 36]


@pytest.mark.usefixtures("narrow_vgg")
def test_vgg_normalises_as_imagenet_and_gives_maps_after_relu() -> None:
    network = vgg.random_vgg()
    picture = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand(1, 3, 16, 16)
    assert all(m.abs().max() == 0 for m in network(picture))  # zeros in, no biases
    maps = network(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert [m.shape[1] for m in maps] == [2, 3, 4, 5, 6]
    assert [m.shape[2] for m in maps] == [16, 8, 4, 2, 1]
    assert all(m.min() >= 0 for m in maps)
    again = vgg.random_vgg()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


class Same(nn.Module):
    """A perceptual network of five maps, each the picture itself."""

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return [pictures] * 5


def perceptual_term(network: nn.Module, size: int, truth: float, **how: Any) -> Tensor:
    settings = {f"perceptual__{name}": value for name, value in how.items()}
    found = Discriminators(perceptual=network)
    return generator_losses(outputs_of(0.5, size), None, targets_of(size, truth), None, found, only(**settings))[
        "perceptual"
    ]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # Values 0.5 and -0.5 on [-1, 1] are 0.75 and 0.25 on [0, 1]; the layer weights sum to 31/32.
        ({"distance": "square", "range": "unit"}, 10 * 31 / 32 * 0.25),
        ({"distance": "absolute", "range": "unit"}, 10 * 31 / 32 * 0.5),
        ({"distance": "absolute", "range": "release"}, 10 * 31 / 32 / 255),
    ],
)
def test_the_perceptual_loss_by_hand(how: dict[str, Any], expected: float) -> None:
    """Checklist 15."""
    assert perceptual_term(Same(), 2, -0.5, weight=10.0, region="frame", **how).item() == pytest.approx(expected)


def test_the_perceptual_loss_may_see_the_crop_alone() -> None:
    seen: list[Tensor] = []
    network = Same()
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    perceptual_term(network, 4, 0.0, weight=1.0, region="crop")
    assert [tuple(picture.shape) for picture in seen] == [(1, 3, 2, 2)] * 2


def test_the_releases_input_is_as_faint_as_the_sheet_says() -> None:
    """Means of 0 to 255 subtracted from values in [-1, 1]: a full step from -1 to 1 is 2 of 255."""
    ends = torch.tensor([-1.0, 1.0])
    assert perceptual_input(ends, PRESETS["release"].losses.perceptual).diff().item() == pytest.approx(2 / 255)
    assert perceptual_input(ends, PRESETS["paper"].losses.perceptual).tolist() == [0, 1]


@pytest.mark.usefixtures("narrow_vgg")
def test_vgg_weights_are_checked_by_their_digest_and_their_names(tmp_path: Path) -> None:
    file, other = tmp_path / "vgg16.safetensors", tmp_path / "other.safetensors"
    weights = vgg.random_vgg(7).state_dict()
    save_tensors(file, {**weights, "classifier.0.weight": torch.zeros(2)})
    save_tensors(other, {"classifier.0.weight": torch.zeros(2)})

    def settings(path: Path, digest: str = "") -> Any:
        digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
        return changed(PRESETS["paper"], losses__perceptual__file=f"{path}@{digest}").losses.perceptual

    read = perceptual_network(settings(file))
    assert not any(p.requires_grad for p in read.parameters())
    assert torch.equal(read.state_dict()["features.28.weight"], weights["features.28.weight"])
    refuses("SHA-256", perceptual_network, settings(file, "0" * 64))
    refuses("lacks 'features", perceptual_network, settings(other))
    refuses("random-vgg16", perceptual_network, PRESETS["paper"].losses.perceptual)
