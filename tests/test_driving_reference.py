"""Equality of `driving` with Monkey-Net's released networks, losses, gradients, keypoint predictor and transfer."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from driving_tools import VIDEO
from reference_tools import Golden, needs_reference
from stillmotion import geometry
from stillmotion.keypoints.config import KeypointConfig, MotionConfig
from stillmotion.keypoints.networks import DenseMotion, Keypoints, StepInputs, gather_inputs, heatmaps, shrink
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.config import PRESETS, DrivingConfig, PredictorConfig
from stillmotion.systems.driving.losses import adversarial_losses, discriminator_loss
from stillmotion.systems.driving.networks import Discriminator, DrivingNetworks, KeypointPredictor, from_release
from stillmotion.systems.driving.transfer import transfer

pytestmark = needs_reference

FAST, SLOW = ("shapes", "taichi"), ("bair", "actions", "moving-gif", "vox")

FLIPS = 3e-3
"""Tolerance of gradients: single ReLU and sampling cells flip. Ours are up to 3e-4 from the authors' with AVX-512, up
to 2.7e-3 with SSE 4.1 (taichi, one thread)."""

BATCH_FLIPS = 0.1
"""In training mode, where the statistics of two pictures amplify them: the authors' own float32 is up to 2e-2 from
their float64, ours up to 4e-2 from their float32 (AVX2, two threads)."""


def fill(golden: Golden, networks: tuple[str, ...], module: nn.Module, config: DrivingConfig) -> nn.Module:
    """A module with the authors' weights of some networks; none is missing or left over."""
    found = [
        from_release(network, name, value, config)
        for network in networks
        for name, value in golden.weights(network).items()
    ]
    assert None not in found
    module.load_state_dict(dict(entry for entry in found if entry), assign=True)
    return module


class Authors:
    """Networks, inputs and outputs of a golden."""

    def __init__(self, name: str):
        self.golden, self.config = Golden(f"driving/{name}"), PRESETS[f"release-{name.partition('_')[0]}"]
        with torch.device("meta"):
            networks, discriminator = DrivingNetworks(self.config), Discriminator(self.config)
        fill(self.golden, ("kp_detector", "generator"), networks, self.config)
        fill(self.golden, ("discriminator",), discriminator, self.config)
        self.networks, self.discriminator = networks, discriminator
        self.source, self.driving = (waves[:, :, 0] for waves in self.golden.waves())
        for network in (networks, discriminator):
            network.train(self.golden.facts["mode"].startswith("train"))


def folded(maps: Tensor) -> Tensor:
    """Maps as the authors have them, with a time of one frame; N x C x h x w -> N x C x 1 x h x w."""
    return maps[:, :, None]


# --- networks -------------------------------------------------------------------------------------------------------
def watched(networks: DrivingNetworks) -> dict[str, Tensor]:
    """What the layers inside give, by name, filled while the networks run."""
    seen: dict[str, Tensor] = {}

    def note(name: str, *args: Any) -> None:
        seen[name] = args[-1]

    motion = networks.generator.dense_motion
    assert motion is not None
    networks.detector.logits.register_forward_hook(partial(note, "logits"))
    networks.generator.decoder.register_forward_hook(partial(note, "decoded"))
    motion.head.register_forward_hook(partial(note, "motion"))
    motion.groups.register_forward_pre_hook(lambda _, inputs: note("embedding", inputs[0]))
    return seen


def check_networks(authors: Authors, inputs: StepInputs, output: Any, seen: Mapping[str, Tensor]) -> None:
    golden, config, driving = authors.golden, authors.config, authors.driving
    count, size = config.keypoints.count, (driving.shape[2], driving.shape[3])
    both = [torch.stack(parts, dim=1) for parts in zip(inputs.source, inputs.target, strict=True)]
    golden.check("kp.mean", both[0])
    golden.check("kp.var", both[1])
    golden.check("detector_logits", torch.stack(list(seen["logits"].chunk(2)), dim=2))
    given = replace(config, keypoints=replace(config.keypoints, heatmap_scale=1.0, heatmap_sum=False))
    golden.check("driving_gaussians", heatmaps(inputs.target, given, size)[:, None])
    for level, maps in enumerate(inputs.features[1:], 1):
        golden.check(f"appearance.{level}", folded(maps))
    golden.check("mask_embedding", folded(seen["embedding"]))
    golden.check(
        "mask_embedding_heatmaps", folded(seen["embedding"][:, :: seen["embedding"].shape[1] // (count + 1)])
    )
    difference = heatmaps(inputs.target, config) - heatmaps(inputs.source, config)
    golden.check("generator_kp_embedding", folded(difference))
    golden.check("dense_motion_prediction", folded(seen["motion"]))
    golden.check("mask", folded(output.motion.masks))
    grid = geometry.identity_grid(config.motion_size) + output.motion.displacement
    golden.check("deformation", torch.nn.functional.pad(grid, (0, 1))[:, None])  # the third coordinate is zero
    golden.check("decoder_output", folded(seen["decoded"]))
    golden.check("video_deformed", folded(output.warped))
    golden.check("video_prediction", folded(output.frame))


def check_losses_and_gradients(authors: Authors, inputs: StepInputs, output: Any, flips: float = FLIPS) -> None:
    golden, weights = authors.golden, authors.config.motion_stages[0].losses
    discriminator, found = authors.discriminator, inputs.target
    for name, frame in (("generated", output.frame), ("real", authors.driving)):
        for level, maps in enumerate(discriminator(frame, found)[1:], 1):
            golden.check(f"disc_{name}.{level}", folded(maps))
    terms = adversarial_losses(discriminator, output.frame, authors.driving, found, weights)
    if weights.warp:
        terms["warp"] = weights.warp * (output.warped - authors.driving).abs().mean()
    total = sum(terms.values(), torch.zeros(()))
    golden.check("generator_loss_total", total)
    loss = discriminator_loss(discriminator, output.frame, authors.driving, found)
    golden.check("discriminator_loss", loss)
    own = torch.autograd.grad(loss, list(discriminator.parameters()), retain_graph=True)
    golden.check("grad_dloss.discriminator", norm(own), flips)
    parameters = dict(authors.networks.named_parameters()) | {
        f"discriminator.{name}": value for name, value in discriminator.named_parameters()
    }
    gradients = dict(zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True))
    for theirs, ours in GROUPS.items():
        parts = [gradient for name, gradient in gradients.items() if name.startswith(ours)]
        if parts:  # shapes has no group convolutions
            golden.check(f"grad_gtotal.{theirs}", norm(parts), flips)


GROUPS = {
    "kp_detector": "detector.",
    "kp_detector.predictor.encoder": "detector.unet.encoder.",
    "generator": "generator.",
    "generator.appearance_encoder.down_blocks": "generator.encoder.",
    "generator.dense_motion_module.group_blocks": "generator.dense_motion.groups.",
    "generator.video_decoder.up_blocks": "generator.decoder.",
    "generator.refinement_module.conv-last": "generator.colours.",
    "discriminator": "discriminator.",
    "discriminator.down_blocks.2": "discriminator.blocks.2.",
}
"""Groups of parameters whose gradients have a norm in the goldens, and how their names begin here."""


def norm(gradients: Any) -> Tensor:
    return torch.stack([gradient.double().square().sum() for gradient in gradients]).sum().sqrt().float()


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_networks_losses_and_gradients_equal_the_authors(name: str) -> None:
    """Tightly: the detector's gradient through D's pass on the real frame is 0.4 % of the whole in taichi."""
    authors = Authors(name)
    seen = watched(authors.networks)
    inputs = gather_inputs(authors.networks, authors.source, authors.driving)
    output = authors.networks(inputs)
    check_networks(authors, inputs, output, seen)
    check_losses_and_gradients(authors, inputs, output)


@pytest.mark.slow
def test_a_step_in_training_mode_equals_the_authors() -> None:
    authors = Authors("taichi_train")
    inputs = gather_inputs(authors.networks, authors.source, authors.driving)
    check_losses_and_gradients(authors, inputs, authors.networks(inputs), BATCH_FLIPS)
    norm_of_detector = authors.networks.detector.unet.encoder.blocks[0].norm
    for statistic in ("running_mean", "running_var"):
        name = f"after_forward.predictor.encoder.down_blocks.0.norm.{statistic}"
        authors.golden.check(name, getattr(norm_of_detector, statistic))


# --- predictor ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "covariance"), [("matrix", "full"), ("fixed", "fixed")])
@torch.no_grad()
def test_the_keypoint_predictor_equals_the_authors(name: str, covariance: Any) -> None:
    golden = Golden(f"driving/predictor_{name}")
    keypoints = KeypointConfig(covariance=covariance)
    config = replace(DrivingConfig(), keypoints=keypoints, predictor=PredictorConfig(least_variance=0.0))
    whole = nn.Module()
    whole.predictor = KeypointPredictor(config)
    weights = [from_release("predictor", *entry, config) for entry in golden.weights().items()]
    whole.load_state_dict(dict(entry for entry in weights if entry))
    given = [values * (torch.arange(32) == 0).view(1, 32, *[1] * (values.ndim - 2)) for values in golden.inputs()]
    inputs = torch.cat([values.flatten(2) for values in given], dim=2)
    first = Keypoints(given[0][:, 0], given[1][:, 0] if len(given) > 1 else torch.eye(2).expand(2, 10, 2, 2))
    made, _ = whole.predictor.unroll(inputs, first, None)
    golden.check("mean", made.mean)
    if covariance == "full":
        golden.check("var", made.covariance)
    rolled = whole.predictor(first, 32)  # the same, but frame 0 is the given one
    assert torch.equal(rolled.mean[:, 0], first.mean)
    torch.testing.assert_close(rolled.mean[:, 1:], made.mean[:, 1:])


# --- functions ------------------------------------------------------------------------------------------------------
def functions() -> tuple[Golden, list[Tensor], list[Keypoints]]:
    """The golden of single functions, its inputs, and keypoints: N x T x K of a driver, N x 1 x K of the still."""
    golden = Golden("driving/functions")
    inputs = golden.inputs()
    covariances = [
        torch.from_numpy(golden.values[f"input_var_{name}"]).view(
            golden.facts["outputs"][f"input_var_{name}"]["shape"]
        )
        for name in ("driving", "source")
    ]
    return golden, inputs, [Keypoints(*parts) for parts in zip(inputs[1:3], covariances, strict=True)]


def time_folded(values: Tensor) -> Tensor:
    """N x T x ... -> NT x ..."""
    return values.flatten(0, 1)


def test_keypoints_of_maps_equal_the_authors() -> None:
    golden, (logits, *_), _ = functions()
    heat = geometry.spatial_softmax(time_folded(logits.transpose(1, 2)), 0.1)
    mean, covariance = geometry.soft_argmax(heat, epsilon=1e-7)
    for floor in ("", "_clip0.001", "_clip0.3"):
        golden.check(f"heat2kp.matrix{floor}.mean", mean.view(2, 2, 3, 2))
        value = geometry.floor_covariance(covariance, float(floor[5:])) if floor else covariance
        golden.check(f"heat2kp.matrix{floor}.var", value.view(2, 2, 3, 2, 2))
    delta = torch.zeros(1, 1, 12, 16)
    delta[..., 3, 14] = 1
    mean, covariance = geometry.soft_argmax(delta, epsilon=1e-7)
    golden.check("delta_row3_col14.mean", mean[None])
    golden.check("delta_row3_col14.var", geometry.floor_covariance(covariance, 0.001)[None])


def test_heatmaps_and_embeddings_equal_the_authors() -> None:
    golden, _, (driving, still) = functions()
    smallest = geometry.smallest_singular_value(driving.covariance)
    golden.check("smallest_singular", smallest[..., None])
    size, sources = (10, 14), Keypoints(*(time_folded(part.expand(-1, 3, *part.shape[2:])) for part in still))
    frames = Keypoints(*(time_folded(part) for part in driving))
    golden.check("gauss.matrix", geometry.gaussian_map(*frames, size).view(2, 3, 4, *size))
    fixed = (0.01 * torch.eye(2)).expand_as(frames.covariance)
    golden.check("gauss.fixed0.01", geometry.gaussian_map(frames.mean, fixed, size).view(2, 3, 4, *size))
    (picture,) = golden.waves()
    pictures = picture.expand(-1, -1, 3, -1, -1).transpose(1, 2).flatten(0, 1)
    base = DrivingConfig(keypoints=KeypointConfig(count=4))
    summed = replace(base, keypoints=replace(base.keypoints, heatmap_sum=True))
    for name, config in (("sum", summed), ("100", base)):
        golden.check(f"embedding.gaussian_{name}", in_time(heatmaps(frames, config, size)))
    shifts = sources.mean - frames.mean
    shifts = torch.cat([torch.zeros_like(shifts[:, :1]), shifts], dim=1)
    difference = heatmaps(frames, base, size) - heatmaps(sources, base, size)
    moved = replace(base, motion=MotionConfig(displacement=True))
    for name, config in (("heatmap_image_bg", base), ("displacement_image_bg", moved)):
        embedding, _ = DenseMotion(config).embed(pictures, difference, shifts)
        golden.check(f"embedding.difference_{name}", in_time(embedding))


def in_time(maps: Tensor) -> Tensor:
    """NT x C x h x w of three frames -> N x C x T x h x w."""
    return maps.unflatten(0, (-1, 3)).transpose(1, 2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("relative", {}),
        ("relative_clip", {"clip_mean": True}),
        ("relative_area", {"scale_motion": True}),
        ("relative_adapt", {"adapt_covariance": True}),
        ("absolute", {"transfer": "absolute"}),
    ],
)
def test_transfer_equals_the_authors(name: str, options: dict[str, Any]) -> None:
    golden, _, (driving, still) = functions()
    frames, own = Keypoints(driving.mean[0], driving.covariance[0]), Keypoints(still.mean[0], still.covariance[0])
    made = transfer(own, frames.rows(slice(1)), frames, Drive(VIDEO, **options))
    golden.check(f"normalize.{name}.mean", made.mean[None])
    golden.check(f"normalize.{name}.var", made.covariance[None])


def test_sampling_and_shrinking_equal_the_authors() -> None:
    golden, inputs, _ = functions()
    (picture,) = golden.waves()
    golden.check("grid_sample.align_true", geometry.warp(picture[:, :, 0], inputs[3]))
    half = DrivingConfig(size=64, motion=MotionConfig(scale=0.5))
    frame = torch.rand(1, 3, 64, 64)
    assert torch.equal(shrink(frame, half), frame[..., ::2, ::2])
