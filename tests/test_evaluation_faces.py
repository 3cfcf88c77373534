"""Face networks: they learn, what is measured of them by hand, and their files."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from refusals import refuses
from stillmotion.evaluation.extractors import open_extractors
from stillmotion.evaluation.extractors.faces import (
    FEATURES,
    SIDE,
    About,
    FaceExpressions,
    FaceNetwork,
    blurred,
    identified,
    recognised,
    save_faces,
    train_faces,
    verification_threshold,
    verified,
)
from stillmotion.files import load_tensors

ROOT = Path(__file__).parents[1]
FRAMES = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), np.uint8)


def colours(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy pictures that are redder (0) or greener (1) than grey."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    pictures = 60 + 40 * torch.rand(count, 3, SIDE, SIDE, generator=generator)
    pictures[torch.arange(count), labels] += 120
    return pictures.byte(), labels


def test_a_network_learns_and_depends_on_its_generator_alone() -> None:
    pictures, labels = colours(8, 0)
    before = torch.get_rng_state()
    made = [
        train_faces(
            pictures, labels, 2, torch.Generator().manual_seed(seed), margin=0.1, flip=True, steps=steps, batch=4
        )
        for seed, steps in ((0, 1), (0, 1), (1, 1), (0, 8))
    ]
    assert torch.equal(before, torch.get_rng_state())
    one, again, other, learned = made
    assert torch.equal(first_weight(one), first_weight(again))
    assert not torch.equal(first_weight(one), first_weight(other))
    shown, asked = colours(10, 7)
    with torch.no_grad():
        features = learned(shown.float() / 255)
    assert features.norm(dim=1).sub(1).abs().max() < 1e-5
    assert recognised(learned, features, asked) == 100
    assert recognised(learned, features, 1 - asked) == 0
    assert sum(weight.numel() for weight in FaceNetwork().parameters()) == 294_808


def first_weight(network: FaceNetwork) -> Tensor:
    return next(network.parameters())


def test_verification_and_identification_by_hand() -> None:
    people = torch.tensor([0, 0, 1, 1])
    features = torch.tensor([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0], [3.0, 0.5]])
    threshold = verification_threshold(features, people)
    assert 1 <= threshold < 3
    assert verified(features, people, threshold) == 100
    # Both pairs of one person are nearer than 1.5; so are none of the four others.
    assert verified(features, people, 0.7) == pytest.approx(50 * (1 / 2 + 1))
    assert verified(features, people, 9.0) == 50
    assert identified(features, people) == 100
    assert identified(torch.cat([features[:3], torch.tensor([[1.0, 0.0]])]), people) == 50


def test_pictures_are_blurred_by_different_amounts() -> None:
    sharp = (torch.arange(16) % 2).float().expand(6, 3, 16, 16)
    made = blurred(sharp, torch.Generator().manual_seed(0))
    contrast = made.std(dim=(1, 2, 3))
    assert (contrast < sharp.std(dim=(1, 2, 3))).all()
    assert contrast.std() > 0.05
    assert torch.allclose(made.mean(dim=(1, 2, 3)), torch.tensor(0.5), atol=1e-6)


def test_networks_are_opened_by_their_digest(tmp_path: Path) -> None:
    network = FaceNetwork(2).eval()
    about = About(("anger", "neutral"), "93.0 % of 70 pictures recognised", "made faces")
    value = save_faces(tmp_path / "expressions", network, about)
    opened = open_extractors([("expressions", value)])["expressions"]
    assert isinstance(opened, FaceExpressions)
    assert opened.classes == ("anger", "neutral")
    assert "trained on made faces; on people it was not trained on: 93.0 % of 70" in opened.description
    features = opened(FRAMES)
    assert features.shape == (2, FEATURES)
    weights = torch.nn.functional.normalize(network.classes.weight, dim=1) if network.classes else None
    assert weights is not None
    with torch.inference_mode():
        assert torch.allclose(opened.scores(features), features @ weights.T, atol=1e-6)

    who = open_extractors([("identity", save_faces(tmp_path / "who", network, About((), "99 %", "made faces")))])
    assert torch.allclose(who["identity"](FRAMES), features, atol=1e-6)
    assert "a face's or a person's identity" in who["identity"].description
    assert not any("classes" in name for name in load_tensors(tmp_path / "who.safetensors"))
    path, _, digest = value.rpartition("@")
    refuses("has the SHA-256", open_extractors, [("expressions", f"{path}@{'0' * 64}")])
    stored = json.loads((tmp_path / "expressions.json").read_text())
    (tmp_path / "expressions.json").write_text(json.dumps({**stored, "classes": ["a", "b", "c"]}))
    refuses("classes.weight", open_extractors, [("expressions", f"{path}@{digest}")])
    (tmp_path / "expressions.json").unlink()
    refuses("ResNet50", open_extractors, [("identity", f"{path}@{digest}")])  # without the JSON it is taken for one


def test_the_recipe_trains_and_names_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = runpy.run_path(str(ROOT / "recipes" / "face_networks.py"))
    few = ["--people", "2", "--tested", "2", "--each", "3", "--steps", "1"]
    few += ["--faces", "2", "--tested-faces", "1", "--expression-steps", "1"]
    recipe["main"]([str(tmp_path / "out"), *few])
    said = capsys.readouterr().out
    given = [line.removeprefix("--network ").split("=", 1) for line in said.splitlines() if line.startswith("--net")]
    assert [name for name, _ in given] == ["identity", "expressions"]
    opened = open_extractors([(name, value) for name, value in given])
    assert "% of pairs verified" in opened["identity"].description
    expressions = opened["expressions"]
    assert isinstance(expressions, FaceExpressions)
    assert expressions.classes == ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    # The same people in the same pictures, whenever they are made; each picture has a scene of its own.
    first, again = (recipe["make_pictures"](range(1), 2) for _ in range(2))
    assert torch.equal(first.pictures, again.pictures)
    corner = first.pictures[:, :, :4, :4].float().mean(dim=(1, 2, 3))
    assert not torch.equal(corner[0], corner[1])
    # Every expression of a person once, in one scene, the same whenever they are made.
    first, again = (recipe["make_expressions"](range(2)) for _ in range(2))
    assert torch.equal(first.pictures, again.pictures)
    assert first.labels.tolist() == [*range(7), *range(7)]
    corners = first.pictures[:, :, :4, :4].float().mean(dim=(1, 2, 3)).view(2, 7)
    assert (corners.amax(1) - corners.amin(1) < 4).all()
    assert (first.pictures[:7, :, 28:52, 16:48].float().std(0).mean(1) > 1).any()


def test_people_are_known_by_themselves_and_not_by_their_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "recipes")
    recipe = runpy.run_path(str(ROOT / "recipes" / "people_network.py"))
    pictures = recipe["make_pictures"]([3, 5], 2)
    assert pictures.pictures.shape == (16, 3, 64, 64)  # four frames of each clip
    assert pictures.labels.tolist() == [3] * 8 + [5] * 8
    assert torch.equal(recipe["make_pictures"]([5], 2).pictures, pictures.pictures[8:])  # the same whenever made
    corners = pictures.pictures[::4, :, :4, :4].float().mean(dim=(2, 3))  # of the four clips
    assert len({tuple(corner.tolist()) for corner in corners}) == 4  # each has a wall of its own
    recipe["main"]([str(tmp_path / "out"), "--people", "2", "--tested", "2", "--clips", "2", "--steps", "1"])
    name, value = capsys.readouterr().out.splitlines()[-1].removeprefix("--network ").split("=", 1)
    opened = open_extractors([(name, value)])["identity"]
    assert "16 pictures of 2 people of the world puppets" in opened.description
    assert opened(FRAMES).shape == (2, FEATURES)


def test_a_network_is_trained_on() -> None:
    pictures = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings = {"margin": 0.1, "flip": False, "batch": 2}
    other_weights = torch.Generator().manual_seed(1)
    network = train_faces(pictures, torch.arange(4) % 2, 2, other_weights, steps=3, **settings)
    kept = first_weight(network).clone()
    after = train_faces(pictures, torch.arange(4) % 2, 2, torch.Generator(), steps=1, start=network, **settings)
    fresh = train_faces(pictures, torch.arange(4) % 2, 2, torch.Generator(), steps=1, **settings)
    away, other = ((first_weight(each) - kept).abs().max() for each in (after, fresh))
    assert 0 < away < 0.01 < other
    assert torch.equal(first_weight(network), kept)
