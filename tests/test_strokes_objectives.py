"""What strokes is trained for: every loss by hand, crops, and the perceptual network (checklist 15)."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stillmotion import losses
from stillmotion.errors import StillmotionError
from stillmotion.files import save_tensors
from stillmotion.nn import vgg
from stillmotion.systems.strokes.carrying import Camera
from stillmotion.systems.strokes.config import PRESETS
from stillmotion.systems.strokes.networks import Drawn, StrokesNetworks
from stillmotion.systems.strokes.objectives import (
    Objectives,
    crop_corners,
    crops,
    perceiver,
    to_perceiver,
)
from strokes_tools import TINY_STROKES
from strokes_training_tools import flat, made_of, moment_of

# --- losses --------------------------------------------------------------------------------------------------------


def objectives(**weights: float | str) -> Objectives:
    """All weights are zero but those given; the network behind them does nothing."""
    zero = {name: 0.0 for name in vars(TINY_STROKES) if name.endswith("_weight")}
    config = replace(TINY_STROKES, **{**zero, "moving_focus": 0.0, "distance": "square", **weights})
    return Objectives(StrokesNetworks(config), config)


def test_reconstruction_terms_by_hand() -> None:
    """Checklist 15: frame 0.5, truth -0.5, auto-encoded 0.25, painted 0; every mean is over equal pixels."""
    moment, made = moment_of(truth=-0.5), made_of(0.5, painted=0.0, rebuilt=0.25)
    terms = objectives(reconstruction_weight=30.0, autoencode_weight=20.0, painted_weight=2.0).generator(
        made, moment, None
    )
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"reconstruction": 30 * 1.0, "autoencode": 20 * 0.75**2, "painted": 2 * 0.25}
    )
    literal = objectives(autoencode_weight=20.0, autoencode_target="made").generator(made, moment, None)
    assert literal["autoencode"].item() == pytest.approx(20 * 0.25**2)
    absolute = objectives(reconstruction_weight=30.0, distance="absolute").generator(made_of(0.25), moment, None)
    assert absolute["reconstruction"].item() == pytest.approx(30 * 0.75)


def test_what_differs_from_the_still_counts_more() -> None:
    """Half of the pixels move: weights 1 and 1 + 3, over their mean 2.5. The frame is wrong by 1 in a moving one."""
    both = objectives(reconstruction_weight=1.0, moving_focus=3.0)
    truth, frame = flat(0.0), flat(0.0)
    truth[..., 0] = 1.0  # the still is 0: the left column moved
    frame[..., 0] = truth[..., 0]
    frame[..., 0, 0] = 0.0
    moment = moment_of()._replace(truth=truth)
    drawn = Drawn(frame, frame, None)
    loss = both.generator(made_of(0)._replace(drawn=drawn), moment, None)["reconstruction"]
    assert loss.item() == pytest.approx((4 / 2.5) / 4)
    assert both.standing(moment).item() == pytest.approx(2 * (4 / 2.5) / 4)


def test_what_neither_the_still_nor_the_moved_still_shows_counts_more() -> None:
    """One row of four: unchanged, uncovered and shown by the moved still, carried, and to be painted."""
    parts = objectives(moving_focus=1.0)
    config = replace(parts.config, carry=True, painting_focus=4.0)
    still, truth = torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4)
    still[..., 1] = 1.0  # an object, and the stroke goes one pixel to the right
    truth[..., 2] = 1.0
    truth[..., 3] = 1.0  # a limb that the still does not have there
    moment = moment_of()._replace(
        still=still, truth=truth, camera=Camera(torch.zeros(1, 2), 1.0, torch.tensor([[2 / 3, 0.0]]))
    )
    weights = Objectives(parts.networks, config).weights(moment)
    assert weights is not None
    wanted = torch.tensor([1.0, 2, 2, 6]) / 2.75
    torch.testing.assert_close(weights[0, 0, 0], wanted)


def test_log_losses_by_hand() -> None:
    """Checklist 15: with a score of 0 everything is log 2; the generator's form does not saturate."""
    zero, score = torch.zeros(2, 1), torch.tensor([[math.log(3)]])  # s(log 3) = 3/4
    assert losses.log_discriminator(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.log_discriminator(score, zero).item() == pytest.approx(-math.log(3 / 4) + math.log(2))
    assert losses.log_discriminator(zero, score).item() == pytest.approx(math.log(2) - math.log(1 / 4))
    assert losses.log_generator(score).item() == pytest.approx(-math.log(3 / 4))


class Scored(nn.Module):
    """A judge whose score is the mean of the first picture it is shown."""

    def forward(self, frame: Tensor, *others: Any) -> Any:
        score = frame.mean(dim=(1, 2, 3))[:, None]
        return [frame * 2, score] if len(others) == 2 and others[0] is None else score


def test_judges_terms_by_hand() -> None:
    """Checklist 15: frame 1, truth -1, weights 2 and 3; D1's only map is twice the frame."""
    mine = objectives(gan_weight=2.0, pair_gan_weight=3.0, feature_weight=0.5)
    mine.networks.frame_discriminator = Scored()  # type: ignore[assignment]
    mine.networks.pair_discriminator = Scored()  # type: ignore[assignment]
    made, moment = made_of(1.0), moment_of(truth=-1.0)
    soft = math.log(1 + math.exp(-1))  # -log s(1)
    terms = mine.generator(made, moment, moment.still)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"gan": 2 * soft, "features": 0.5 * 4, "pair_gan": 3 * soft}
    )
    wrong = 2 * math.log(1 + math.exp(1))  # real judged -1, fake judged 1: -log s(-1), twice
    assert mine.frame_discriminator(made, moment).item() == pytest.approx(wrong)
    assert mine.pair_discriminator(made, moment, moment.still).item() == pytest.approx(wrong)


@pytest.mark.parametrize(
    ("preset", "weights"),
    [
        ("paper", {"reconstruction": 20, "autoencode": 20, "crop": 0, "gan": 1, "pair_gan": 1, "perceptual": 10}),
        ("release", {"reconstruction": 30, "autoencode": 20, "crop": 50, "gan": 1, "pair_gan": 1, "perceptual": 10}),
    ],
)
def test_presets_have_the_sheets_weights(preset: str, weights: dict[str, float]) -> None:
    """Checklist 15."""
    config = PRESETS[preset]
    assert {name: getattr(config, f"{name}_weight") for name in weights} == weights
    assert config.perceptual_layers == (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    assert (config.perceptual_distance, config.perceptual_region) == (
        ("square", "frame") if preset == "paper" else ("absolute", "crop")
    )
    assert config.distance == "square"
    assert (config.crop_branch, config.pair_sees_step, config.motion_condition) == (
        (False, False, True) if preset == "paper" else (True, True, False)
    )
    assert (config.learning_rate, config.beta1, config.frames, config.batch) == (2e-4, 0.5, 17, 4)


# --- crops ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["point", "release"])
def test_crops_are_half_the_side_around_the_point_and_inside(place: Any) -> None:
    """Sheet 4.3, at 256: the centre is clamped to [64, 192], and one coordinate is shifted by -64 to 64."""
    config = replace(PRESETS["release"], crop_place=place)
    point = torch.tensor([[100.0, 120.0]])
    corners = crop_corners(point.expand(400, 2), config, torch.Generator().manual_seed(0))
    x, y = corners.T
    # As in the release: x is the row's number plus 32, y the column's; else x and y are the point's own.
    centre = (120 + 32, 100 + 32) if place == "release" else (100, 120)
    assert (y == centre[1] - 64).all()
    assert int(x.min()) == max(centre[0] - 64, 64) - 64
    assert int(x.max()) == min(centre[0] + 64, 192) - 64
    assert len(x.unique()) > 60
    far = crop_corners(torch.tensor([[-50.0, 900.0]]), config, torch.Generator().manual_seed(0))
    assert sorted(far[0].tolist()) == [0, 128]


def test_a_crop_is_the_window_that_begins_at_x_y() -> None:
    pictures = torch.arange(2 * 16.0).view(2, 1, 4, 4)
    cut = crops(pictures, torch.tensor([[2, 1], [0, 2]]))
    assert cut[:, 0].tolist() == [[[6, 7], [10, 11]], [[24, 25], [28, 29]]]


def test_the_crop_loss_sees_the_crop_alone_on_both_sides() -> None:
    mine = objectives(crop_weight=50.0)
    frame = flat(0.0, 4)
    frame[..., 2:, 2:] = 0.5
    made = made_of(0, 4)._replace(drawn=Drawn(frame, frame, None))
    for corner, loss in (((0, 0), 0.0), ((2, 2), 50 * 0.25), ((1, 2), 50 * 0.125)):
        moment = moment_of(4)._replace(corners=torch.tensor([corner]))
        assert mine.generator(made, moment, None)["crop"].item() == pytest.approx(loss)


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


class Seer(nn.Module):
    """A perceptual network of five maps, each the picture itself."""

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return [pictures] * 5


@pytest.mark.usefixtures("narrow_vgg")
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # Values 0.5 and -0.5 on [-1, 1] are 0.75 and 0.25 on [0, 1]; the layer weights sum to 31/32.
        ({"perceptual_distance": "square", "perceptual_input": "scaled"}, 10 * 31 / 32 * 0.25),
        ({"perceptual_distance": "absolute", "perceptual_input": "scaled"}, 10 * 31 / 32 * 0.5),
        ({"perceptual_distance": "absolute", "perceptual_input": "release"}, 10 * 31 / 32 / 255),
    ],
)
def test_the_perceptual_loss_by_hand(how: dict[str, Any], expected: float) -> None:
    """Checklist 15."""
    mine = objectives(perceptual_weight=10.0, perceptual_network="random-vgg16", perceptual_region="frame", **how)
    mine.perceiver = Seer()
    loss = mine.generator(made_of(0.5), moment_of(truth=-0.5), None)["perceptual"]
    assert loss.item() == pytest.approx(expected)


@pytest.mark.usefixtures("narrow_vgg")
def test_the_perceptual_loss_may_see_the_crop_alone() -> None:
    seen: list[Tensor] = []
    mine = objectives(perceptual_weight=1.0, perceptual_network="random-vgg16", perceptual_region="crop")
    mine.perceiver = Seer()
    mine.perceiver.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    mine.generator(made_of(0.5, 4), moment_of(4), None)
    assert [tuple(picture.shape) for picture in seen] == [(1, 3, 2, 2)] * 2


def test_the_releases_input_is_as_faint_as_the_sheet_says() -> None:
    """Means of 0 to 255 subtracted from values in [-1, 1]: a full step from -1 to 1 is 2 of 255."""
    step = to_perceiver(torch.tensor([-1.0, 1.0]), PRESETS["release"]).diff().item()
    assert step == pytest.approx(2 / 255)
    assert to_perceiver(torch.tensor([-1.0, 1.0]), PRESETS["paper"]).tolist() == [0, 1]


@pytest.mark.usefixtures("narrow_vgg")
def test_vgg_weights_are_checked_by_their_digest_and_their_names(tmp_path: Path) -> None:
    file = tmp_path / "vgg16.safetensors"
    weights = vgg.random_vgg(7).state_dict()
    save_tensors(file, {**weights, "classifier.0.weight": torch.zeros(2)})
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    config = replace(PRESETS["paper"], perceptual_weights=f"{file}@{digest}")
    read = perceiver(config)
    assert not any(p.requires_grad for p in read.parameters())
    assert torch.equal(read.state_dict()["features.28.weight"], weights["features.28.weight"])
    with pytest.raises(StillmotionError, match="SHA-256"):
        perceiver(replace(config, perceptual_weights=f"{file}@{'0' * 64}"))
    with pytest.raises(StillmotionError, match="lacks 'features"):
        perceiver(replace(config, perceptual_network="vgg19"))
    with pytest.raises(StillmotionError, match="random-vgg16"):
        perceiver(replace(config, perceptual_weights=""))
