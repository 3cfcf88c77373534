"""Muon: steps whose singular values are near one, of the convolutions alone; stored and resumed."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Adam

from driving_tools import LOSSES, NOT_ADVERSARIAL, STAGE, at, batch_of, changed, stepper, training_of, weights
from refusals import refused
from stillmotion.files import load_tensors
from stillmotion.keypoints.data import halved
from stillmotion.training import checkpoint, fit
from stillmotion.training.muon import LEAST_ROWS, Muon, orthogonal, split
from stillmotion.training.settings import LoopSettings
from stopping import ctrl_c

PYRAMID = {**NOT_ADVERSARIAL, **at(LOSSES, pyramid=1.0)}


@given(rows=st.integers(2, 40), columns=st.integers(2, 40), seed=st.integers(0, 99), size=st.floats(1e-6, 1e6))
def test_all_singular_values_of_a_step_are_near_one_however_large_the_gradient(
    rows: int, columns: int, seed: int, size: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, rows, generator=random)).Q
    right = torch.linalg.qr(torch.randn(columns, columns, generator=random)).Q
    count = min(rows, columns)
    values = torch.linspace(1, 0.2, count)
    found = orthogonal(size * (left[:, :count] * values) @ right[:count])
    assert found.shape == (rows, columns)
    cosines = torch.diag(left[:, :count].T @ found @ right[:count].T)  # along the same directions
    assert ((cosines > 0.6) & (cosines < 1.3)).all()


def test_nothing_of_nothing() -> None:
    assert not orthogonal(torch.zeros(3, 5)).any()


def test_convolutions_go_to_muon_and_heads_and_biases_do_not() -> None:
    network = nn.Sequential(nn.Conv2d(3, LEAST_ROWS, 3), nn.Conv2d(LEAST_ROWS, 2, 3), nn.Linear(9, 9))
    made = split("net", network.parameters(), 0.02, lambda rest: Adam(rest, 0.1))
    assert list(made) == ["net", "net_matrices"]
    (matrix,) = made["net_matrices"].param_groups[0]["params"]
    assert matrix is network[0].weight
    assert made["net_matrices"].param_groups[0]["lr"] == 0.02
    others = made["net"].param_groups[0]["params"]
    assert {id(p) for p in others} == {id(p) for p in network.parameters()} - {id(matrix)}
    assert list(split("net", network.parameters(), 0.0, lambda rest: Adam(rest, 0.1))) == ["net"]


@pytest.mark.parametrize(("rows", "scale"), [(4, 1.0), (72, 2.0)])
def test_a_step_has_the_rate_as_its_length_in_every_direction(rows: int, scale: float) -> None:
    weight = nn.Parameter(torch.zeros(rows, 2, 3, 3))  # 18 columns
    optimizer = Muon([weight], lr=0.1, momentum=0.9)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    values = torch.linalg.svdvals(weight.detach().flatten(1))
    assert ((values > 0.06 * scale) & (values < 0.13 * scale)).all()
    assert (weight.detach() * weight.grad).sum() < 0  # downhill
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert not torch.equal(before, weight)  # what is left of the momentum
    weight.grad, before = None, weight.detach().clone()
    optimizer.step()
    assert torch.equal(before, weight)


# --- in a stage ----------------------------------------------------------------------------------------------------
def test_a_stage_with_muon_learns_all_of_its_parameters_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    settings = LoopSettings(preview_every=0, precision="fp32", threads=1)

    def trained(run: Path, resume: bool = False) -> dict[str, Tensor]:
        torch.manual_seed(3)
        stage = training_of(**PYRAMID, **at(STAGE, muon=0.01, steps=3))
        before = weights(stage.model)
        fit([stage], run, settings, config={}, resume=resume)
        assert changed(before, stage.model)
        made = checkpoint.find_last(run, [stage.name])
        assert made is not None
        return {
            f"{file.stem}/{name}": value
            for file in sorted(made.folder.glob("*.safetensors"))
            for name, value in load_tensors(file).items()
        }

    whole = trained(tmp_path / "whole")
    assert any("generator_matrices" in name and "momentum" in name for name in whole)
    with ctrl_c():
        trained(tmp_path / "parts")
    parts = trained(tmp_path / "parts", resume=True)
    assert whole.keys() == parts.keys()
    assert [name for name, value in whole.items() if not torch.equal(value, parts[name])] == []


# --- small pictures first ------------------------------------------------------------------------------------------
def test_half_a_batch_knows_the_same() -> None:
    """Of a picture that grows evenly from left to right, moved by a sixteenth of its width."""
    size, by = 32, 4.0
    ramp = torch.arange(size, dtype=torch.float32).expand(1, 3, size, size)
    batch = {
        "source": ramp,
        "driving": ramp - by,
        "plate": torch.zeros(1, 4, size, size),
        "displacement": torch.tensor([-by * 2 / (size - 1), 0.0]).expand(1, size, size, 2),
        "moving": torch.ones(1, size, size),
        "visibility": torch.arange(size)[None, None].expand(1, size, size),
        "figure": torch.ones(1, 1, size, size),
        "points": torch.tensor([[[[0.5, -0.25]]]]),
        "weights": torch.ones(1, 1, 1),
        "name": ["clip"],
    }
    found = halved(batch)
    assert [found[name].shape[-1] for name in ("source", "driving", "plate", "visibility", "figure", "moving")] == [
        16
    ] * 6
    grid = torch.stack(torch.meshgrid(*2 * [torch.linspace(-1, 1, 16)], indexing="xy"), dim=-1)[None]
    warped = nn.functional.grid_sample(found["source"], grid + found["displacement"], align_corners=True)
    torch.testing.assert_close(warped[..., 2:], found["driving"][..., 2:])
    shown, small = (
        nn.functional.grid_sample(each["source"], each["points"], align_corners=True) for each in (batch, found)
    )
    torch.testing.assert_close(shown, small)
    assert found["weights"] is batch["weights"]


def test_a_stage_sees_small_pictures_in_its_first_part() -> None:
    assert "knows one size" in refused(training_of, **at(STAGE, small_first=0.5))  # it has a discriminator
    stage = training_of(**PYRAMID, **at(STAGE, small_first=0.5, steps=4))
    sizes = list[int]()
    stage.model.generator.register_forward_hook(lambda *given: sizes.append(given[-1].frame.shape[-1]))
    for _ in range(4):
        stage.step(batch_of(stage), stepper(stage))
        for scheduler in stage.schedulers.values():
            scheduler.step()
    whole = stage.config.size
    assert sizes == [whole // 2, whole // 2, whole, whole]
