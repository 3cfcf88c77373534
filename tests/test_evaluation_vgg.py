"""VGG-16's pooled features, on which frames are compared where no Inception v3 is at hand."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from refusals import refuses
from stillmotion.evaluation.extractors import open_extractors
from stillmotion.evaluation.extractors.vgg import FEATURES
from stillmotion.evaluation.protocols import find_protocol
from stillmotion.evaluation.protocols.columns import FeatureCache
from stillmotion.evaluation.report import measured_columns
from stillmotion.files import WEIGHTS_LIST, check_digest, save_tensors
from stillmotion.nn.vgg import random_vgg


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `stillmotion weights vgg16` makes it, with random weights."""
    out = tmp_path_factory.mktemp("vgg16")
    file = out / "trunk.safetensors"
    save_tensors(file, random_vgg().state_dict())
    (out / WEIGHTS_LIST).write_text(json.dumps({file.name: hashlib.sha256(file.read_bytes()).hexdigest()}))
    return out


def test_features_are_means_of_the_last_map(folder: Path) -> None:
    """Frames of half the size are enlarged to 64 pixels, and the map of 4 x 4 behind the last ReLU is averaged."""
    extractor = open_extractors([("vgg16", str(folder))])["vgg16"]
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = extractor(frames)
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    large = torch.nn.functional.interpolate(pictures, (64, 64), mode="bilinear", align_corners=False)
    with torch.no_grad():
        last = random_vgg()(large)[4]
    assert last.shape == (2, FEATURES, 4, 4)
    assert last.min() == 0
    torch.testing.assert_close(found, last.sum((2, 3)) / 16)
    assert (extractor.dimension, extractor.per_video) == (512, False)


def test_the_description_has_the_digest_of_the_folder_and_of_the_file(folder: Path) -> None:
    digest = json.loads((folder / WEIGHTS_LIST).read_text())["trunk.safetensors"]
    check_digest(folder / "trunk.safetensors", digest)
    for given in (str(folder), f"{folder / 'trunk.safetensors'}@{digest}"):
        assert f"SHA-256 {digest}" in open_extractors([("vgg16", given)])["vgg16"].description


def test_other_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    refuses("SHA-256", open_extractors, [("vgg16", f"{folder / 'trunk.safetensors'}@{'0' * 64}")])
    refuses("does not exist", open_extractors, [("vgg16", str(tmp_path))])


class Pooled:
    """What a column needs to know of the extractor."""

    description, dimension, per_video = "", FEATURES, False

    def __call__(self, frames: np.ndarray) -> torch.Tensor:
        return torch.zeros(len(frames), FEATURES)


def test_a_distance_on_it_has_a_name_of_its_own() -> None:
    cache = FeatureCache({"vgg16": Pooled()})
    found = [column.name for column in measured_columns(find_protocol("prediction"), cache)]
    assert found[0] == "Frechet distance (VGG-16)"
    assert "FID" not in found
