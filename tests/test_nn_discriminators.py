"""The shared discriminators: shapes, parameter counts, and equality with the authors' networks."""

import re

import pytest
import torch
from torch import Tensor, nn

from reference_tools import Golden, load, needs_reference, set_leading_vectors
from stillmotion import losses
from stillmotion.nn.discriminators import MultiScaleDiscriminator, PatchDiscriminator, TemporalDiscriminator
from stillmotion.nn.spectral import SpectralNorm


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("spectral", [False, True])
def test_patch_discriminator_returns_its_maps_and_the_scores(norm: str, spectral: bool) -> None:
    network = PatchDiscriminator(width=4, layers=3, norm=norm, spectral_norm=spectral)  # type: ignore[arg-type]
    maps = network(torch.zeros(2, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 7, 7), (1, 6, 6)]
    found = {type(module) for module in network.modules()}
    assert (nn.InstanceNorm2d in found) == (norm == "instance")
    assert any(issubclass(kind, nn.BatchNorm2d) for kind in found) == (norm == "batch")
    assert sum(isinstance(module, SpectralNorm) for module in network.modules()) == (5 if spectral else 0)


def test_patch_discriminator_has_the_released_size_and_sees_70_pixels() -> None:
    network = PatchDiscriminator(norm="none")
    assert parameters(network) == 2_764_737
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scores = network(image)[-1]
    (gradient,) = torch.autograd.grad(scores[0, 0, 7, 7], image)
    rows = gradient.abs().sum((0, 1, 3)).nonzero()[:, 0]
    assert int(rows.max() - rows.min()) + 1 == 70


def test_widths_stop_at_eight_times_the_first() -> None:
    convs = PatchDiscriminator(in_channels=6, width=2, layers=5).convs
    assert [(c.in_channels, c.out_channels) for c in convs] == [
        (6, 2),
        (2, 4),
        (4, 8),
        (8, 16),
        (16, 16),
        (16, 16),
        (16, 1),
    ]
    assert [c.stride[0] for c in convs] == [2, 2, 2, 2, 2, 1, 1]


def test_a_feature_map_is_leaky_after_its_norm() -> None:
    """With a first weight of zero and bias -1 the first map is -0.2 everywhere."""
    network = PatchDiscriminator(width=1, layers=1)
    nn.init.zeros_(network.convs[0].weight)
    nn.init.constant_(network.convs[0].bias, -1.0)
    maps = network(torch.ones(1, 3, 16, 16))
    assert torch.allclose(maps[0], torch.full((1, 1, 8, 8), -0.2))
    assert maps[1].mean().abs() < 0.5  # the instance norm has mean 0, its leaky form little more


def test_multi_scale_halves_the_image_and_shares_no_weights() -> None:
    network = MultiScaleDiscriminator(width=4, layers=2, norm="none", scales=3)
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    outputs = network(image)
    assert [maps[0].shape[-1] for maps in outputs] == [32, 16, 8]
    assert [len(maps) for maps in outputs] == [4, 4, 4]
    half = nn.functional.avg_pool2d(image, 3, 2, padding=1, count_include_pad=False)
    assert all(torch.equal(a, b) for a, b in zip(outputs[1], network.discriminators[1](half), strict=True))
    assert parameters(network) == 3 * parameters(PatchDiscriminator(width=4, layers=2, norm="none"))


@pytest.mark.parametrize(("size", "scores"), [(64, 4), (128, 8)])
def test_temporal_discriminator_of_a_whole_clip(size: int, scores: int) -> None:
    with torch.device("meta"):
        assert parameters(TemporalDiscriminator(frames=10, size=size)) == 26_554_369
        network = TemporalDiscriminator(frames=10, size=size, spectral_norm=False)
        maps = network(torch.zeros(2, 3, 10, size, size))
    assert [tuple(m.shape[1:3]) for m in maps[:-1]] == [(32, 10), (128, 5), (256, 3), (256, 2), (256, 1)]
    assert [m.shape[-1] * 64 // size for m in maps[:-1]] == [16, 8, 4, 4, 4]
    assert maps[-1].shape == (2, 1, scores, scores)


def test_temporal_discriminator_with_a_score_per_frame() -> None:
    with torch.device("meta"):
        network = TemporalDiscriminator(frames=5, size=64, per_frame=True, spectral_norm=False)
        maps = network(torch.zeros(2, 3, 7, 64, 64))
    assert parameters(network) == 11_535_808
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 7, 16, 16),
        (128, 7, 16, 16),
        (128, 7, 8, 8),
        (256, 7, 4, 4),
        (7,),
    ]


def test_temporal_convolutions_are_orthogonal_and_normalised_where_asked() -> None:
    torch.manual_seed(0)
    plain = TemporalDiscriminator(frames=2, size=16, spectral_norm=False)
    matrix = plain.conv.weight.flatten(1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(64), atol=1e-5)
    assert not any(isinstance(module, SpectralNorm) for module in plain.modules())
    counts = [
        sum(isinstance(m, kind) for m in TemporalDiscriminator(2, 16).modules()) for kind in (SpectralNorm, nn.Conv3d)
    ]
    assert counts[0] == counts[1] > 0


# --- the authors' networks -----------------------------------------------------------------------------------------
def patch_name(name: str) -> str:
    """`in_conv`, `layers.N` and `out_conv` are the first, middle and last of ours."""
    first, *rest = name.replace("in_conv", "convs.0").replace("out_conv", "convs.4").split(".")
    return ".".join(["convs", str(int(rest[0]) + 1), *rest[1:]] if first == "layers" else [first, *rest])


def temporal_name(name: str) -> str:
    name = re.sub(r"^layer1\.", "stages.0.", name)
    name = re.sub(r"^layers\.(\d)", lambda found: f"stages.{int(found[1]) + 1}", name)
    name = name.replace("downsample", "shortcut").replace("bn", "norm").replace("gn1", "norm").replace("fc", "score")
    name = re.sub(r"^conv1", "conv", name).replace("final", "score")
    name = name.replace("weight_orig", "parametrizations.weight.original")
    return re.sub(r"weight_([uv])$", r"parametrizations.weight.0.\1", name)


def check_losses(golden: Golden, network: nn.Module, real: Tensor, fake: Tensor) -> None:
    """Scores, feature maps and the losses that the goldens hold."""
    of_real, of_fake = network(real), network(fake)
    golden.check("logits_real", of_real[-1])
    golden.check("logits_fake", of_fake[-1])
    used = slice(1, -1) if isinstance(network, PatchDiscriminator) else slice(0, -1)
    for number, feature_map in enumerate(of_real[used]):
        golden.check(f"features_real.{number}", feature_map)
    none = torch.tensor(torch.inf)
    golden.check("loss_real_hinge", losses.hinge_discriminator(of_real[-1], -none))
    golden.check("loss_fake_hinge", losses.hinge_discriminator(none, of_fake[-1]))
    golden.check("loss_generator", losses.hinge_generator(of_fake[-1]))
    maps = len(of_real[used])
    matching = losses.feature_matching(of_fake[used], of_real[used], [1 / maps] * maps)
    golden.check("loss_feature_matching_l1", matching)
    golden.check("gradient_penalty", losses.r1_penalty(lambda x: network(x)[-1], real))


@needs_reference
@pytest.mark.parametrize("size", [64, 128])
def test_patch_discriminator_equals_the_authors(size: int) -> None:
    golden = Golden(f"pokes/patch_discriminator{size}")
    network = PatchDiscriminator().eval()
    load(network, golden.weights(), patch_name)
    real, fake = golden.inputs()
    check_losses(golden, network, real, fake)
    scores = [network(x)[-1] for x in (real, fake)]
    penalty = losses.r1_penalty(lambda x: network(x)[-1], real)
    (losses.hinge_discriminator(*scores) + 1e-4 * penalty).backward()
    ours = dict(network.named_parameters())
    norms = [ours[patch_name(name)].grad.norm() for name, _ in golden.facts["parameters"]]
    golden.check("disc_step_grad_norm_per_parameter", torch.stack(norms))


def singular_values(network: nn.Module, weights: dict[str, Tensor]) -> Tensor:
    """What each layer divides its weight by in the next forward pass, in the order of the authors' state."""
    values = []
    for name in weights:
        if name.endswith("weight_orig"):
            layer = network.get_submodule(temporal_name(name).removesuffix(".parametrizations.weight.original"))
            values.append(layer.parametrizations.weight.original.norm() / layer.weight.norm())
    return torch.stack(values)


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize(("form", "size"), [("64", 64), ("128", 128), ("_patch64", 64)])
def test_temporal_discriminator_equals_the_authors(form: str, size: int) -> None:
    golden = Golden(f"pokes/temporal_discriminator{form}")
    network = TemporalDiscriminator(5 if "patch" in form else 10, size, per_frame="patch" in form)
    weights = golden.weights()
    load(network, weights, temporal_name)
    golden.check("sigma_after_one_train_forward", singular_values(network, weights))
    set_leading_vectors(weights)
    load(network, weights, temporal_name)
    network.eval()
    golden.check("sigma", singular_values(network, weights))
    check_losses(golden, network, *golden.inputs())
