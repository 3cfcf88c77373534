"""Equality of `strokes` with the authors' released networks. No checkpoint was published; the names map here."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from reference_tools import Golden, needs_reference
from stillmotion.systems.strokes.config import PRESETS
from stillmotion.systems.strokes.losses import crop
from stillmotion.systems.strokes.networks import FrameDiscriminator, PairDiscriminator, StrokesNetworks
from strokes_tools import changed

pytestmark = needs_reference

# Three networks of the generator side number their layers in order; the predictor and the discriminators do not.
PLACES = {
    r"generator/encoder_f/g_f(\d)_conv": "encoder.layers.{0}",
    r"generator/encoder_m/g_s(\d)_conv": "motion.layers.{0}",
    r"generator/decoder_f/g_f4": "decoder.colours",
    r"generator/decoder_f/g_f(\d)": "decoder.layers.{0}",
    r"generator/AE_predict/g_trans_3_conv1": "predictor.transition",
    r"generator/AE_predict/g_dense_(\w+)_bottleN_(\d)_conv1": "predictor.blocks.{0}.units.{1}.narrow",
    r"generator/AE_predict/g_dense_(\w+)_bottleN_(\d)_conv2": "predictor.blocks.{0}.units.{1}.wide",
    r"discriminator_global_local/\w+/d_c(\d)_(\d)": "frame.whole.layers.{0}",
    r"discriminator_global_local/\w+/d_l(\d)_(\d)": "frame.crop.layers.{0}",
    r"discriminator_sequence/\w+/s_c(\d)_(\d)": "pair.whole.layers.{0}",
    r"discriminator_global_local/\w+/d_l4": "frame.score",
    r"discriminator_sequence/\w+/s_l4": "pair.score",
}


def renamed(name: str, value: Tensor) -> tuple[str, Tensor]:
    """A variable of the release as an entry here; kernels height x width x in x out (transposed: out x in)."""
    layer, _, last = name.rpartition("/")
    found, place = next(
        (re.fullmatch(pattern, layer), place) for pattern, place in PLACES.items() if re.fullmatch(pattern, layer)
    )
    assert found is not None
    numbers = [5 if each == "final" else int(each) for each in found.groups()]
    if "decoder.layers" in place or "g_dense" in layer:
        numbers[0] -= numbers[0] > 0 and "final" not in layer
    if "discriminator" in layer and len(numbers) == 2:
        numbers = [2 * numbers[0] + numbers[1]]
    part = {"w": "weight", "b": "bias", "u": "u"}[last]
    if value.ndim == 4:
        value = value.permute(3, 2, 0, 1)
    elif part == "u":
        value = value.flatten()
    return f"{place.format(*numbers)}.{part}", value.T if part == "weight" and value.ndim == 2 else value


def channels_last(maps: Tensor) -> Tensor:
    """N x C x h x w -> N x h x w x C."""
    return maps.permute(0, 2, 3, 1)


class Authors:
    """Networks, frames and strokes of a golden."""

    def __init__(self, size: int):
        self.golden, config = Golden(f"strokes/networks{size}"), changed(PRESETS["release"], size=size)
        self.weights = dict(renamed(*entry) for entry in self.golden.weights().items())
        with torch.device("meta"):
            self.parts = torch.nn.ModuleDict({"frame": FrameDiscriminator(config), "pair": PairDiscriminator(config)})
            self.networks = StrokesNetworks(config)
        own = {name: value for name, value in self.weights.items() if name.partition(".")[0] in ("frame", "pair")}
        self.parts.load_state_dict(own, assign=True)
        rest = {name: value for name, value in self.weights.items() if name not in own}
        self.networks.load_state_dict(rest, assign=True)
        self.rule = {name: value.clone() for name, value in rest.items() if name.endswith(".u")}
        for network in (self.parts, self.networks):
            network.train()
        self.still, self.following, self.current = (2 * waves[:, :, 0] - 1 for waves in self.golden.waves())
        points = next(entry["points"] for entry in self.golden.facts["inputs"] if entry["name"] == "stroke")
        self.stroke, self.step = (squares(points, count, size) for count in (3, 2))

    def reset(self) -> None:
        """Put the decoder's u back to the rule's."""
        for name, value in self.rule.items():
            self.networks.get_buffer(name).copy_(value)


def squares(points: list[list[list[int]]], count: int, size: int) -> Tensor:
    """Maps of ones with a square of 5 x 5 around each of the first points, (row, column)."""
    maps = torch.ones(len(points), 1, size, size)
    for picture, own in zip(maps, points, strict=True):
        for number, (row, column) in enumerate(own[:count]):
            picture[0, row - 2 : row + 3, column - 2 : column + 3] = -1 + 0.25 * number
    return maps


@pytest.mark.slow
@torch.no_grad()
def test_networks_equal_the_authors() -> None:
    authors = Authors(64)  # at 256 pixels, 113 seconds, they were equal too
    golden, networks = authors.golden, authors.networks
    state = initial = networks.encoder(authors.still)
    golden.check("image_code", channels_last(initial))
    stroke, step = (networks.motion(maps) for maps in (authors.stroke, authors.step))
    golden.check("stroke_code", channels_last(stroke))
    golden.check("step_code", channels_last(step))
    for number in range(1, 1 + sum(name.startswith("state.") for name in golden.facts["outputs"])):
        state = networks.predictor([state, initial, stroke, step])
        golden.check(f"state.{number}", channels_last(state))
        authors.reset()
        golden.check(f"frame.{number}", channels_last(networks.decoder(state)))
    for name in (name for name in golden.facts["outputs"] if name.startswith("u_after_one_run")):
        entry, _ = renamed(name.partition(".")[2], torch.zeros(1, 1))
        golden.check(name, networks.get_buffer(entry)[None])
    golden.check("frame_second_run_same_state", channels_last(networks.decoder(state)))
    row, column = golden.facts["settings"]["crop_row_col"]
    part = crop(authors.current, torch.from_numpy(np.array([[column, row]] * 2)))
    golden.check("frame_logit", authors.parts["frame"](authors.current, part)[:, 0])
    golden.check("pair_logit", authors.parts["pair"](authors.following, authors.current, authors.step)[:, 0])
