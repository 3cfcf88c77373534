"""The forecasting network, its critic and the pose predictor: sizes, what reads what, ablations."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stillmotion.morphable.regressor import FaceRegressor
from stillmotion.systems.structures.config import PRESETS, PoseConfig
from stillmotion.systems.structures.forecasting import (
    ForecastNetwork,
    ImageCritic,
    PosePredictor,
    rename_release,
)
from stillmotion.systems.structures.losses import pose_loss
from structures_tools import TINY, changed, parameters, uniform

MAPS = 13
PARTS = ("image_encoder", "structure_encoder", "decoder")


def on_meta(size: int, kind: str = "normals", **changes: Any) -> ForecastNetwork:
    """Shapes alone."""
    with torch.device("meta"):
        return ForecastNetwork(changed(PRESETS["paper"], size=size, structure__kind=kind, **changes))


def forecast(seed: int = 0, **changes: Any) -> ForecastNetwork:
    """A small network in eval mode, with weights that make a difference."""
    torch.manual_seed(seed)
    network = ForecastNetwork(changed(TINY, **changes)).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0, 0.1)
    return network


def inputs(stills: int = 2, frames: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    return (
        uniform(stills, 3, 16, 16),
        uniform(stills, MAPS, 16, 16, seed=1, low=0),
        uniform(stills * frames, MAPS, 16, 16, seed=2, low=0),
    )


# --- sizes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("size", "encoder", "decoder", "total", "critic"),
    [
        (64, 14_325_760, 41_675_076, 70_326_596, 13_286_977),
        (96, 15_636_480, 42_996_036, 74_268_996, 13_297_217),
        (128, 21_405_184, 71_766_852, 114_577_220, 20_366_401),
    ],
)
def test_parameter_counts(size: int, encoder: int, decoder: int, total: int, critic: int) -> None:
    """Line 1."""
    network = on_meta(size)
    assert [parameters(getattr(network, part)) for part in PARTS] == [encoder, encoder, decoder]
    assert parameters(network) == total
    with torch.device("meta"):
        assert parameters(ImageCritic(changed(PRESETS["paper"], size=size))) == critic


@pytest.mark.parametrize(
    ("kind", "total", "critic"), [("joints", 70_332_356, 13_292_737), ("limbs", 70_352_516, 13_312_897)]
)
def test_parameter_counts_for_poses(kind: str, total: int, critic: int) -> None:
    assert parameters(on_meta(64, kind)) == total
    with torch.device("meta"):
        assert parameters(ImageCritic(changed(PRESETS["paper"], size=64, structure__kind=kind))) == critic


@pytest.mark.parametrize(
    ("size", "dense", "widths"),
    [
        (64, True, [2048, 2560, 2048, 1792]),
        (64, False, [2048, 2048, 1024, 512]),
        (128, True, [2048, 2560, 3072, 2560, 2304]),
    ],
)
def test_input_widths_of_the_decoders_blocks(size: int, dense: bool, widths: list[int]) -> None:
    """Line 2."""
    network = on_meta(size, forecast__dense=dense)
    blocks: Any = network.decoder.blocks
    assert [block.conv1.in_channels for block in blocks] == widths
    if not dense:
        assert parameters(network.decoder) == 35_476_292


def test_sizes_of_maps() -> None:
    network = on_meta(96)
    code = network.image_encoder(torch.zeros(2, 3, 96, 96, device="meta"))
    assert code.vector.shape == (2, 128)
    shapes = [(64, 96), (128, 48), (256, 24), (512, 12), (512, 6)]
    assert [tuple(x.shape[1:]) for x in code.maps] == [(c, s, s) for c, s in shapes]


# --- what reads what ------------------------------------------------------------------------------------------------
@torch.no_grad()
def test_a_frame_is_content_where_the_mask_is_and_the_still_elsewhere() -> None:
    """Line 3: Eq. 2 to float precision, and exactly at the ends."""
    network, (still, source, target) = forecast(), inputs()
    output = network(still, source, target)
    torch.testing.assert_close(output.frame, output.mask * output.content + (1 - output.mask) * still)
    assert output.mask.std() > 0.01
    assert (output.frame - still).abs().max() > 0.1
    assert network.decoder.mask is not None
    nn.init.zeros_(network.decoder.mask.weight)
    for bias, expected in ((-200.0, still), (200.0, output.content)):
        nn.init.constant_(network.decoder.mask.bias, bias)  # type: ignore[arg-type]
        assert torch.equal(network(still, source, target).frame, expected)


@torch.no_grad()
def test_ranges() -> None:
    """Line 4."""
    output = forecast()(*inputs())
    assert output.mask.shape == (2, 1, 16, 16)
    assert 0 < output.mask.min() < output.mask.max() < 1
    assert output.frame.abs().max() <= 1
    assert output.content.abs().max() < 1


@torch.no_grad()
def test_without_a_change_of_structure_the_code_is_that_of_the_still() -> None:
    """Line 5: the difference of the map codes is zero; Eq. 3 where it is not."""
    network, (still, source, target) = forecast(), inputs()
    seen: list[Tensor] = []
    network.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(still, source, source)
    network(still, source, target)
    image, before, after = (
        encoder(x).vector
        for encoder, x in (
            (network.image_encoder, still),
            (network.structure_encoder, source),
            (network.structure_encoder, target),
        )
    )
    assert torch.equal(seen[0], image)
    torch.testing.assert_close(seen[1], after - before + image)
    assert (seen[1] - image).abs().max() > 1e-3


def test_one_encoder_reads_both_structure_maps_and_another_the_still() -> None:
    """Line 6."""
    network = forecast()
    calls = {"image": 0, "structure": 0}
    network.image_encoder.register_forward_hook(lambda *_: calls.update(image=calls["image"] + 1))
    network.structure_encoder.register_forward_hook(lambda *_: calls.update(structure=calls["structure"] + 1))
    network(*inputs())
    assert calls == {"image": 1, "structure": 2}
    assert {name.split(".")[0] for name in network.state_dict()} == set(PARTS)
    assert not {p.data_ptr() for p in network.image_encoder.parameters()} & {
        p.data_ptr() for p in network.structure_encoder.parameters()
    }


@torch.no_grad()
def test_skips_are_still_target_and_source_in_this_order() -> None:
    network, (still, source, target) = forecast(), inputs()
    seen: list[list[Tensor]] = []
    network.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    network(still, source, target)
    codes = [
        network.image_encoder(still), network.structure_encoder(target), network.structure_encoder(source)
    ]  # fmt: skip
    for level, skip in enumerate(seen[0]):
        assert torch.equal(skip, torch.cat([code.maps[level] for code in codes], dim=1))


@torch.no_grad()
def test_a_still_is_encoded_once_for_all_frames_of_its_video() -> None:
    network, (still, source, targets) = forecast(), inputs(frames=3)
    output = network.decode(network.encode(still, source), targets)
    assert output.frame.shape == (6, 3, 16, 16)
    for number, target in enumerate(targets):
        n = number // 3
        alone = network(still[n : n + 1], source[n : n + 1], target[None])
        torch.testing.assert_close(output.frame[number], alone.frame[0])
        torch.testing.assert_close(output.mask[number], alone.mask[0])


@torch.no_grad()
def test_every_block_reads_all_earlier_outputs_and_without_dense_links_the_last_alone() -> None:
    for dense in (True, False):
        network = forecast(forecast__dense=dense)
        seen: list[Tensor] = []
        outputs: list[Tensor] = []
        for block in network.decoder.blocks:
            block.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
            block.register_forward_hook(lambda _, __, out, outputs=outputs: outputs.append(out))
        network(*inputs())
        first = seen[0][:, -8:]  # of the linear layer, 4 x 4
        enlarged = first.repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = torch.cat([enlarged, outputs[0]], dim=1) if dense else outputs[0]
        assert torch.equal(seen[1][:, 3 * 8 :], expected)


# --- ablations ------------------------------------------------------------------------------------------------------
@torch.no_grad()
def test_a_difference_map_is_added_to_the_still() -> None:
    """Eq. 1: no mask, and white can become black."""
    network, (still, source, target) = forecast(forecast__residual="difference"), inputs()
    output = network(still, source, target)
    torch.testing.assert_close(output.frame, still + 2 * output.content)
    assert torch.equal(output.mask, torch.ones(2, 1, 16, 16))
    assert not any("mask" in name for name in network.state_dict())


@torch.no_grad()
def test_without_a_residual_the_content_is_the_frame() -> None:
    network, (still, source, target) = forecast(forecast__residual="none"), inputs()
    output = network(still, source, target)
    assert torch.equal(output.frame, output.content)
    assert parameters(forecast()) - parameters(network) == 4 * 4 * 9 + 1


# --- critic ---------------------------------------------------------------------------------------------------------
@torch.no_grad()
def test_the_critic_reads_the_structure_map() -> None:
    """Line 7: 3 + C channels; the score changes when only the map does."""
    torch.manual_seed(0)
    critic = ImageCritic(TINY)
    assert critic.encoder.first.in_channels == 3 + MAPS
    frame, before, after = inputs()
    scores = [critic(torch.cat([frame, maps], dim=1)) for maps in (before, after)]
    assert scores[0].shape == (2, 1)
    assert (scores[0] - scores[1]).abs().min() > 1e-6


def test_initial_weights_are_the_releases() -> None:
    torch.manual_seed(0)
    network = ForecastNetwork(changed(TINY, forecast__max_width=64, forecast__width=32))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() > 2000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
        if isinstance(module, nn.Linear):
            assert module.bias.abs().max() == 0
        if isinstance(module, nn.BatchNorm2d) and module.weight.numel() > 100:
            assert module.weight.mean().item() == pytest.approx(1, abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.3)
            assert module.bias.abs().max() == 0
    assert network.decoder.content.bias.abs().max() > 1e-3  # type: ignore[union-attr]


# --- poses ----------------------------------------------------------------------------------------------------------
def test_the_pose_predictor_has_the_papers_size() -> None:
    """Line 18: 4,356,986 parameters; 10 poses in, 32 out."""
    with torch.device("meta"):
        network = PosePredictor(PoseConfig())
        parts = [parameters(part) for part in (network.embedding, network.gates, network.pose)]
        assert parts == [864, 4_329_472, 26_650]
        assert parameters(network) == sum(parts) == 4_356_986
        assert network(torch.zeros(2, 10, 26), 32).shape == (2, 32, 26)


@torch.no_grad()
def test_the_pose_predictor_is_an_lstm_that_then_reads_zeros() -> None:
    torch.manual_seed(0)
    network = PosePredictor(PoseConfig(embedding=5, width=7), joints=2)
    for value in network.parameters():
        nn.init.normal_(value, 0, 0.5)
    reference: Any = nn.LSTM(5, 7, batch_first=True)
    reference.weight_ih_l0.copy_(network.gates.weight[:, :5])
    reference.weight_hh_l0.copy_(network.gates.weight[:, 5:])
    reference.bias_ih_l0.copy_(network.gates.bias)
    nn.init.zeros_(reference.bias_hh_l0)
    # Torch's order of gates is input, forget, candidate, output: the same.
    observed = uniform(3, 4, 4)
    read = torch.relu(network.embedding(observed))
    states, _ = reference(torch.cat([read, torch.zeros(3, 6, 5)], dim=1))
    expected = torch.tanh(network.pose(states[:, 4:]))
    torch.testing.assert_close(network(observed, 6), expected)
    torch.testing.assert_close(network(observed, 2), expected[:, :2])


def test_the_pose_predictor_learns_a_sine_wave() -> None:
    """Line 18: it overfits one made pose; a joint that is never visible may be anywhere."""
    torch.manual_seed(0)
    network = PosePredictor(PoseConfig(width=32))
    time, joint = torch.arange(42.0)[:, None], torch.arange(26.0)
    poses = (0.5 * torch.sin(0.4 * time + joint))[None]
    visible = torch.ones(1, 32, 13)
    visible[..., 4] = 0
    target = poses[:, 10:].clone()
    target[..., [4, 17]] = 5.0
    optimizer = torch.optim.RMSprop(network.parameters(), 5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = pose_loss(network(poses[:, :10], 32), target, visible)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 25)
        optimizer.step()
    assert loss.item() < 0.2 * poses.var().item()


# --- names ----------------------------------------------------------------------------------------------------------
def test_names_of_the_release() -> None:
    for theirs, ours in {
        "module.img_encoder.res_blocks.2.shortcut.1.weight": "image_encoder.blocks.2.shortcut.weight",
        "norm_encoder.fc_z.bias": "structure_encoder.code.bias",
        "norm_encoder.res_blocks.0.conv2.0.bias": "structure_encoder.blocks.0.conv2.bias",
        "decoder.res_blocks.0.conv1.1.bias": "decoder.blocks.0.conv1.bias",
        "decoder.res_blocks.0.bn1.running_var": "decoder.blocks.0.norm1.running_var",
        "decoder.bn.weight": "decoder.norm.weight",
        "decoder.w.bias": "decoder.mask.bias",
        "decoder.conv.bias": "decoder.content.bias",
        "decoder.fc.bias": "decoder.first.bias",
        "module.res_blocks.1.conv1.bias": "encoder.blocks.1.conv1.bias",
        "conv.weight": "encoder.first.weight",
        "fc.weight": "encoder.code.weight",
    }.items():
        assert rename_release(theirs) == ours


def test_the_face_regressor_has_its_size() -> None:
    with torch.device("meta"):
        network = FaceRegressor()
        assert parameters(network) == 3_270_526
        assert network(torch.zeros(2, 3, 120, 120)).shape == (2, 62)
