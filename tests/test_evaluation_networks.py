"""Feature extractors: their shapes against what torchvision publishes, and files with other weights."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driving_tools import still_picture
from refusals import refuses
from stillmotion.data import pose
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors import EXTRACTORS, identity, inception, open_extractors, video
from stillmotion.evaluation.extractors.base import NetworkFeatures, VideoFeatures, load_weights
from stillmotion.evaluation.extractors.i3d import I3D, Convolution, Mixed, open_i3d, pad_same, same_max_pool
from stillmotion.evaluation.extractors.identity import ResNet50, open_resnet50
from stillmotion.evaluation.extractors.inception import BlockA, InceptionV3, open_inception
from stillmotion.evaluation.extractors.keypoints import BlazePose
from stillmotion.evaluation.extractors.video import VideoNetwork, open_video_network
from stillmotion.files import read_weights, save_tensors

CLASSIFIER = 1000 * 2048 + 1000
"""Parameters of torchvision's last layer, which we leave out."""


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- the networks --------------------------------------------------------------------------------------------------
def test_inception_has_torchvisions_parameters() -> None:
    with torch.device("meta"):
        network = InceptionV3()
    auxiliary = 768 * 128 + 2 * 128 + 128 * 768 * 25 + 2 * 768 + 768 * 1000 + 1000
    assert parameters(network) == 27_161_264 - CLASSIFIER - auxiliary  # the published count, all but two heads
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert sum(name.endswith("conv.weight") for name in shapes) == 94
    # Some of the published names, one of each kind of block.
    assert shapes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert shapes["Conv2d_4a_3x3.bn.running_mean"] == (192,)
    assert shapes["Mixed_5b.branch5x5_2.conv.weight"] == (64, 48, 5, 5)
    assert shapes["Mixed_5d.branch_pool.conv.weight"] == (64, 288, 1, 1)
    assert shapes["Mixed_6a.branch3x3.conv.weight"] == (384, 288, 3, 3)
    assert shapes["Mixed_6c.branch7x7_2.conv.weight"] == (160, 160, 1, 7)
    assert shapes["Mixed_6e.branch7x7dbl_2.conv.weight"] == (192, 192, 7, 1)
    assert shapes["Mixed_7a.branch7x7x3_3.conv.weight"] == (192, 192, 7, 1)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["Mixed_7c.branch_pool.bn.weight"] == (192,)


def test_resnet_has_torchvisions_parameters() -> None:
    with torch.device("meta"):
        network = ResNet50()
    assert parameters(network) == 25_557_032 - CLASSIFIER  # the published count
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert len([name for name in shapes if not name.endswith("num_batches_tracked")]) == 320 - 2 - 53
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer3.5.conv2.weight"] == (256, 256, 3, 3)
    assert shapes["layer4.2.bn3.running_var"] == (2048,)


def test_resnet_halves_five_times() -> None:
    network = ResNet50().eval()
    maps: list[Tensor] = []
    network.layer4.register_forward_hook(lambda module, inputs, output: maps.append(output))
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 96, 64)).shape == (1, 2048)
    assert maps[0].shape == (1, 2048, 3, 2)


def test_padding_counts_in_torchvisions_averages_only() -> None:
    with torch.device("meta"):
        networks = InceptionV3(), InceptionV3(tensorflow=True)
    pools = [[n.get_submodule(f"Mixed_{name}.pool") for name in ("5b", "6e", "7b", "7c")] for n in networks]
    ones = torch.ones(1, 1, 4, 4)
    assert [pool(ones)[0, 0, 0, 0].item() for pool in pools[0]] == [pytest.approx(4 / 9)] * 4  # a corner sees 5 zeros
    assert all((pool(ones) == 1).all() for pool in pools[1])
    assert [type(pool) for pool in pools[1]] == [nn.AvgPool2d] * 3 + [nn.MaxPool2d]
    assert BlockA(8, 32, pools[0][0])(torch.zeros(1, 8, 5, 5)).shape == (1, 256, 5, 5)


# --- networks of videos --------------------------------------------------------------------------------------------
def mixed_parameters(inputs: int, first: int, a: int, b: int, c: int, d: int, pooled: int) -> int:
    """Kernels of 1x1x1 and 3x3x3, and two numbers of batch norm per channel."""
    return inputs * (first + a + c + pooled) + 27 * (a * b + c * d) + 2 * (first + a + b + c + d + pooled)


def test_i3d_has_the_parameters_of_the_port() -> None:
    with torch.device("meta"):
        network, one = I3D(), Mixed(192, 64, (96, 128), (16, 32), 32)
    # 192 * (64 + 96 + 16 + 32) + 27 * (96 * 128 + 16 * 32) + 2 * 368 = 39,936 + 345,600 + 736
    assert parameters(one) == mixed_parameters(192, 64, 96, 128, 16, 32, 32) == 386_272
    stem = (3 * 64 * 343 + 128) + (64 * 64 + 128) + (64 * 192 * 27 + 384)
    blocks = 386_272 + 837_888 + 737_760 + 904_464 + 1_103_664 + 1_356_672 + 1_799_168 + 1_974_272 + 2_784_736
    assert stem + blocks == 12_287_264
    assert parameters(network) == 12_287_264 + 1024 * 400 + 400 == 12_697_264
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["Conv3d_1a_7x7.conv3d.weight"] == (64, 3, 7, 7, 7)
    assert shapes["Conv3d_2c_3x3.bn.running_var"] == (192,)
    assert shapes["Mixed_3b.b0.conv3d.weight"] == (64, 192, 1, 1, 1)
    assert shapes["Mixed_4c.b1b.conv3d.weight"] == (224, 112, 3, 3, 3)
    assert shapes["Mixed_4e.b2a.conv3d.weight"] == (32, 512, 1, 1, 1)
    assert shapes["Mixed_5c.b2b.conv3d.weight"] == (128, 48, 3, 3, 3)
    assert shapes["Mixed_5b.b3b.bn.weight"] == (128,)
    assert shapes["logits.conv3d.weight"] == (400, 1024, 1, 1, 1)
    assert sum(name.endswith("conv3d.weight") for name in shapes) == 3 + 9 * 6 + 1


def test_i3d_halves_time_three_times_and_the_sides_five_times() -> None:
    with torch.device("meta"):
        network, videos = I3D().eval(), torch.zeros(2, 3, 10, 224, 224)
    sizes: dict[str, tuple[int, ...]] = {}
    for name in ("Conv3d_1a_7x7", "Conv3d_2c_3x3", "Mixed_3c", "Mixed_4f", "Mixed_5c", "logits"):
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: sizes.update({name: tuple(output.shape[1:])})
        )
    assert network(videos).shape == (2, 400)
    assert sizes == {
        "Conv3d_1a_7x7": (64, 5, 112, 112),
        "Conv3d_2c_3x3": (192, 5, 56, 56),
        "Mixed_3c": (480, 5, 28, 28),
        "Mixed_4f": (832, 3, 14, 14),
        "Mixed_5c": (1024, 2, 7, 7),
        "logits": (400, 1, 1, 1),
    }
    assert network(videos[:, :, :9]).shape == (2, 400)  # the least
    steps = torch.tensor([1.0, 5.0]).view(1, 1, 2, 1, 1).expand(1, 400, 2, 1, 1)
    network.logits.register_forward_hook(lambda module, inputs, output: steps)
    assert (network(videos) == 3).all()  # the mean over time


def test_same_padding_puts_the_odd_zero_after() -> None:
    """Along time and both sides: 4, 3 and 5 long, kernels of 7, 3 and 2, strides of 2, 1 and 2."""
    x = torch.arange(1.0, 61).view(1, 1, 4, 3, 5)
    padded = pad_same(x, (7, 3, 2), (2, 1, 2))
    # (2 - 1) * 2 + 7 - 4 = 5 zeros: 2 and 3; 2 * 1 + 3 - 3 = 2: 1 and 1; 2 * 2 + 2 - 5 = 1: 0 and 1
    assert padded.shape == (1, 1, 4 + 5, 3 + 2, 5 + 1)
    assert torch.equal(padded[:, :, 2:6, 1:4, :5], x)
    assert padded.sum() == x.sum()
    # Windows of 3 over 1 2 3 4 at a stride of 2 start at the first value; symmetric padding would give 2 and 4.
    line = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 1, 1, 4)
    assert same_max_pool(line, (1, 1, 3), (1, 1, 2)).flatten().tolist() == [3, 4]
    layer = Convolution(1, 1, (1, 1, 3), (1, 1, 2)).eval()
    nn.init.ones_(layer.conv3d.weight)
    assert layer(line)[0, 0, 0, 0].tolist() == pytest.approx([6, 7], rel=1e-3)  # batch norm divides by sqrt(1.001)


def test_i3d_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "i3d.safetensors"
    tensors = dict(I3D().state_dict())
    save_tensors(path, {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")})
    source = open_extractors([("i3d", f"{path}@{digest(path)}")])["i3d"]
    assert (source.dimension, source.per_video) == (400, True)
    assert all(word in source.description for word in ("400 logits", "224 x 224", "bilinearly", digest(path)))
    video = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    found = source(video)
    assert found.shape == (1, 400)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    refuses("need 9 frames after the still, not 8", source, video[:9])
    refuses("SHA-256", open_i3d, path, "0" * 64)
    del tensors["Mixed_4d.b1b.bn.bias"]
    save_tensors(path, tensors)
    refuses("lacks tensor 'Mixed_4d.b1b.bn.bias'; it is not a I3D", open_i3d, path, digest(path))


def test_videos_are_scaled_without_their_first_frame() -> None:
    """A network that returns the mean of its input over time and place."""
    seen: list[Tensor] = []

    class Record(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.mean(dim=(2, 3, 4))

    source = VideoFeatures(Record(), 3, (20, 10), 2, "records")
    frames = np.zeros((21, 8, 8, 3), np.uint8)
    frames[1:, ..., 0], frames[0] = 255, 77
    assert torch.equal(source(frames), torch.tensor([[1.0, -1.0, -1.0]]))
    assert tuple(seen[0].shape) == (1, 3, 20, 20, 10)  # the whole video at once
    assert "the first frame of each video (the still) left out" in source.description
    frames[5:, ..., 1] = 255
    source(frames)
    assert seen[1][0, 1, :, 0, 0].tolist() == [-1] * 4 + [1] * 16  # time stays time


def test_the_video_network_of_the_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = VideoNetwork().eval()
    assert [type(layer) for layer in network.layers] == [nn.Conv3d, nn.BatchNorm3d, nn.ReLU] * 4
    assert parameters(network) == 27 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 96) + 2 * (16 + 32 + 64 + 96)
    path = tmp_path / "video.safetensors"
    save_tensors(path, {name: v.half() if v.ndim > 1 else v for name, v in network.state_dict().items()})
    source = open_extractors([("video", f"{path}@{digest(path)}")])["video"]
    frames = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
    assert source(frames).shape == (1, 96) == (1, source.dimension)
    assert "64 x 64" in source.description
    monkeypatch.setattr(video, "WEIGHTS", tmp_path / "none")
    refuses(
        "ships no weights of the video network; train it by recipes/video_network.py", open_video_network, "worlds"
    )
    monkeypatch.setattr(video, "WEIGHTS", path)
    assert torch.equal(open_video_network("worlds")(frames), source(frames))


# --- weights from files --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as a re-identification network's would be after conversion, with arbitrary numbers, and a wrong one."""
    folder = tmp_path_factory.mktemp("weights")
    save_tensors(folder / "bare.safetensors", {"fc.bias": torch.zeros(7)})
    save_tensors(
        folder / "reid.safetensors", {**ResNet50().state_dict(), "classifier.weight": torch.zeros(751, 2048)}
    )
    return folder


@pytest.mark.slow
def test_inception_files_are_read_and_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors of both publishers, without writing 90 MB twice."""
    torch.manual_seed(0)
    tensors = dict(InceptionV3().state_dict())
    head = {
        "fc.weight": torch.zeros(1000, 2048),
        "fc.bias": torch.zeros(1000),
        "AuxLogits.fc.bias": torch.zeros(1000),
    }
    old = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    files = {"torchvision's": {**tensors, **head}, "TensorFlow's": {**old, "fc.bias": torch.zeros(1008)}}
    monkeypatch.setattr(inception, "read_weights", lambda path, sha256: files[str(path)])
    frames = np.stack([still_picture((32, 48)), 255 - still_picture((32, 48))])
    found = {}
    for origin in files:
        source = open_inception(Path(origin), "0123")
        assert all(word in source.description for word in (origin, "SHA-256 0123", "299 x 299"))
        assert not source.network.training
        found[origin] = source(frames)
        assert found[origin].shape == (2, 2048) == (2, source.dimension)
    one, other = found.values()
    assert not torch.allclose(one, other, rtol=1e-3)  # the same numbers, pooled differently
    assert not torch.allclose(one[0], one[1])


def test_identity_files_are_read(weights: Path) -> None:
    path = weights / "reid.safetensors"
    source = open_extractors([("identity", f"{path}@{digest(path).upper()}")])["identity"]
    assert source(np.stack([still_picture()])).shape == (1, 2048)
    assert "288 x 144" in source.description


def test_frames_are_scaled_and_normalised_as_described() -> None:
    """A network that returns the mean of its input."""
    seen: list[Tensor] = []

    class Record(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.mean(dim=(2, 3))

    source = NetworkFeatures(Record(), 3, (20, 10), lambda x: 2 * x - 1, "records")
    frames = np.zeros((35, 8, 8, 3), np.uint8)
    frames[:, :, :, 0] = 255
    assert torch.equal(source(frames), torch.tensor([[1.0, -1.0, -1.0]]).expand(35, 3))
    assert [tuple(x.shape) for x in seen] == [(16, 3, 20, 10), (16, 3, 20, 10), (3, 3, 20, 10)]


def test_each_network_is_given_the_range_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Black and white, without the networks: Inception v3 has [-1, 1], ResNet-50 ImageNet's mean and deviation."""
    monkeypatch.setattr(inception, "InceptionV3", lambda _: nn.Identity())
    monkeypatch.setattr(identity, "ResNet50", nn.Identity)
    for module in (inception, identity):
        monkeypatch.setattr(module, "read_weights", lambda *_: {"fc.bias": torch.zeros(1000)})
        monkeypatch.setattr(module, "load_weights", lambda *_, **__: None)
    frames = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)])
    for opened, black, white in (
        (open_inception(Path("a"), ""), (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)),
        (open_resnet50(Path("a"), ""), (-2.1179, -2.0357, -1.8044), (2.2489, 2.4286, 2.64)),
    ):
        pictures = opened.pictures(frames)
        assert pictures.shape == (2, 3, *(opened.size or ()))
        for picture, expected in zip(pictures, (black, white), strict=True):
            values = torch.tensor(expected)[:, None, None].expand_as(picture)
            torch.testing.assert_close(picture, values, rtol=0, atol=1e-4)


def test_the_digest_is_checked_before_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x80\x02 no weights")
    for given in ("", "12ab", "z" * 64):
        refuses(f"@DIGEST; this file's is {digest(path)}", read_weights, path, given)
    refuses(f"{digest(path)}, not {'0' * 64}; get the file again", read_weights, path, "0" * 64)
    refuses("only safetensors", read_weights, path, digest(path))
    refuses("cannot be read", read_weights, tmp_path / "missing", "0" * 64)
    refuses("cannot be read", read_weights, tmp_path, "0" * 64)


def test_other_weights_are_refused_by_name(weights: Path) -> None:
    path = weights / "bare.safetensors"
    refuses("no Inception v3 with its classifier", open_inception, path, digest(path))
    refuses(r"lacks tensor 'bn1.bias'; it is not a ResNet50", open_resnet50, path, digest(path))
    network = nn.Sequential(nn.Linear(2, 1))
    right = dict(network.state_dict())
    refuses("foreign tensor 'odd'", load_weights, network, {**right, "odd": torch.zeros(1)}, path, ())
    with pytest.raises(StillmotionError, match=r"'0.weight' in .* is \(3, 3\), not \(1, 2\)"):
        load_weights(network, {**right, "0.weight": torch.zeros(3, 3)}, path, ())
    load_weights(
        network, {"0.weight": torch.ones(1, 2), "0.bias": torch.ones(1), "head.x": torch.ones(1)}, path, ("head.",)
    )
    assert torch.equal(network[0].weight, torch.ones(1, 2))


def test_unknown_networks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuses(f"no network 'smell'; known are {', '.join(EXTRACTORS)}", open_extractors, [("smell", "x")])
    refuses("no keypoint detector 'openpose'; known are blazepose", open_extractors, [("keypoints", "openpose")])
    monkeypatch.setattr(pose, "find_joints", lambda frames, tracking=True: np.zeros((len(frames), 13, 3)))
    refuses("'keypoints' is given twice", open_extractors, [("keypoints", "blazepose")] * 2)


# --- BlazePose -----------------------------------------------------------------------------------------------------
def test_found_means_visible_and_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []

    def find_joints(frames: np.ndarray, tracking: bool = True) -> np.ndarray:
        calls.append(tracking)
        joints = np.full((len(frames), 13, 3), np.nan, np.float32)
        if len(frames):
            joints[0] = (5, 5, 0.9)
            joints[0, 1] = (5, 5, 0.49)  # hardly visible
            joints[0, 2] = (-0.6, 5, 0.9)  # left of the picture
            joints[0, 3] = (9.5, 7.5, 0.5)  # on the outer edge of the last pixel
            joints[0, 4] = (5, 7.6, 0.9)  # below
        return joints

    monkeypatch.setattr(pose, "find_joints", find_joints)
    points = BlazePose()(np.zeros((2, 8, 10, 3), np.uint8))
    assert points.shape == (2, 13, 3)
    assert points[0, :, 2].tolist() == [1, 0, 0, 1, 0] + [1] * 8
    assert (points[1, :, 2] == 0).all()  # nobody
    assert calls[-1] is False  # a frame's joints do not depend on the frames before it


def test_a_missing_mediapipe_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("mediapipe")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    refuses(r"needs mediapipe 0\.10\.21: run `make pose`", BlazePose)
