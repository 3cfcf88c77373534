"""What the parts of the system are trained for: every loss of one time step (sheet section 4)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import losses
from stillmotion.errors import StillmotionError
from stillmotion.files import read_weights
from stillmotion.nn import vgg
from stillmotion.nn.spectral import frozen_power_iteration
from stillmotion.systems.base import fill
from stillmotion.systems.strokes import carrying, coding
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.networks import Drawn, StrokesNetworks

CHANGED = 0.2
"""Mean difference over the channels, frames in [-1, 1], from which on a pixel counts as changed for certain."""


class Moment(NamedTuple):
    """One time step of a batch of clips: what is known before anything is made. Frames are in [-1, 1].

    Attributes:
        t: the step from frame t to frame t + 1.
        still: frame 0, N x 3 x s x s.
        current: the true frame t.
        truth: the true frame t + 1.
        seen: the still and these two as E1 sees them; with `stabilise`, through the camera.
        motion: the stroke pictures that E2 reads.
        step: S_t, if the pair discriminator sees it.
        corners: N x 2, (x, y) of the first pixel of each crop.
        camera: at t + 1, if the generator carries the still.
    """

    t: int
    still: Tensor
    current: Tensor
    truth: Tensor
    seen: tuple[Tensor, Tensor, Tensor]
    motion: list[Tensor]
    step: Tensor
    corners: Tensor
    camera: carrying.Camera | None = None


class Made(NamedTuple):
    """What the networks make of a moment.

    Attributes:
        state: of the next frame.
        drawn: that frame.
        rebuilt: the true next frame through E1 and G; None where it is not asked for.
        motion: x_t.
        code: E1's of the true next frame, if it is asked for.
    """

    state: Tensor
    drawn: Drawn
    rebuilt: Tensor | None
    motion: Tensor
    code: Tensor | None = None


def look(
    frames: Tensor, points: Tensor, t: int, config: StrokesConfig, networks: StrokesNetworks, rng: torch.Generator
) -> Moment:
    """Gather what step t needs.

    Args:
        frames: N x T x 3 x s x s in [-1, 1].
        points: N x T x 2, (x, y) in pixels.
        t: 0 to T - 2.
        config: the system's.
        networks: they say which stroke pictures they read.
        rng: the crops are drawn from it.
    """
    shown = config.judges_pairs and config.pair_sees_step
    pair = (frames[:, t], frames[:, t + 1])
    return Moment(
        t,
        frames[:, 0],
        *pair,
        (
            held(frames[:, 0], points, 0, config),
            held(pair[0], points, t, config),
            held(pair[1], points, t + 1, config),
        ),
        networks.motion_pictures(points, t),
        coding.step(points, t, config) if shown else frames.new_zeros(()),
        crop_corners(points[:, t], config, rng),
        networks.camera(points, t),
    )


def held(frames: Tensor, points: Tensor, t: int, config: StrokesConfig) -> Tensor:
    """True frames t as E1 sees them, N x 3 x s x s: with `stabilise`, through the camera that follows the stroke."""
    if not config.stabilise:
        return frames
    return carrying.seen_by(carrying.camera(points, t, config.size, config.zoom), frames)


def make(networks: StrokesNetworks, moment: Moment, state: Tensor | None) -> Made:
    """One step forward, and the true next frame auto-encoded if there is a loss for that.

    Args:
        networks: E1, E2, P and G of them.
        moment: see there.
        state: that of frame t; None for E1's, which is h_0 at t = 0 and otherwise teacher forcing.
    """
    rebuild, compare = networks.config.autoencode_weight > 0, networks.config.state_weight > 0
    seen = foresee(networks, moment, state, also=moment.seen[2] if rebuild or compare else None)

    def draw(code: Tensor) -> Drawn:
        drawn: Drawn = networks.decoder(code, moment.still, moment.camera, seen.skips)
        return drawn

    rebuilt = draw(seen.also).paint if rebuild and seen.also is not None else None
    return Made(seen.state, draw(seen.state), rebuilt, seen.motion, seen.also)


class Foreseen(NamedTuple):
    """What is known before a frame is drawn.

    Attributes:
        state: of the next frame.
        motion: x_t.
        also: E1's code of one more picture; None if there is none.
        skips: the still as E1 sees it, and E1's other maps of it.
    """

    state: Tensor
    motion: Tensor
    also: Tensor | None
    skips: list[Tensor]


def foresee(networks: StrokesNetworks, moment: Moment, state: Tensor | None, also: Tensor | None = None) -> Foreseen:
    """The next state, and what E1 and E2 see on the way; arguments as for `make`, `also` one more picture for E1."""
    forced = state is None and moment.t > 0
    pictures = [moment.seen[0], *([moment.seen[1]] if forced else []), *([] if also is None else [also])]
    *maps, last = networks.encoder.maps(torch.cat(pictures))  # one call: nothing in E1 joins samples
    codes = last.chunk(len(pictures))
    initial = codes[0]
    if state is None:
        state = codes[1] if forced else initial
    motion = networks.encode_motion(moment.motion)
    made = networks.predictor([state, initial, *motion])
    of_still = [moment.seen[0], *(part[: len(moment.still)] for part in maps)]
    return Foreseen(made, torch.cat(motion, dim=1), None if also is None else codes[-1], of_still)


class Objectives:
    """All losses, with the weights of a configuration.

    Raises:
        StillmotionError: the perceptual network needs weights that are not given or are not its own.
    """

    def __init__(self, networks: StrokesNetworks, config: StrokesConfig, perceives: bool = True):
        self.networks, self.config = networks, config
        self.perceiver = perceiver(config) if perceives and config.perceptual_weight else None

    def generator(self, made: Made, moment: Moment, current: Tensor | None) -> dict[str, Tensor]:
        """The terms that E1, E2, P and G minimise, weighted.

        Args:
            made: with gradient.
            moment: the truth.
            current: the frame that was made before, without gradient; I_0 at t = 0. Only the pair discriminator asks.
        """
        config, frame, truth = self.config, made.drawn.frame, moment.truth
        weights, terms = self.weights(moment), {}
        if config.reconstruction_weight:
            terms["reconstruction"] = config.reconstruction_weight * self.distance(frame, truth, weights)
        if config.painted_weight:
            terms["painted"] = config.painted_weight * self.distance(made.drawn.paint, truth, weights)
        if made.rebuilt is not None:
            target = truth if config.autoencode_target == "true" else frame
            terms["autoencode"] = config.autoencode_weight * self.distance(made.rebuilt, target, weights)
        if config.state_weight:
            assert made.code is not None
            aim = made.code.detach().float()
            terms["state"] = config.state_weight * (made.state.float() - aim).abs().mean() / aim.abs().mean()
        if config.crop_weight:
            parts = (crops(picture, moment.corners) for picture in (frame, truth))
            terms["crop"] = config.crop_weight * self.distance(*parts)
        if self.perceiver is not None:
            terms["perceptual"] = config.perceptual_weight * self.perceptual(frame, truth, moment.corners)
        if self.networks.frame_discriminator is not None:
            with frozen_power_iteration(self.networks.frame_discriminator):
                *maps, score = self.judge_frame(frame, made, moment)
                terms["gan"] = config.gan_weight * losses.log_generator(score)
                if config.feature_weight:
                    with torch.no_grad():
                        real = self.judge_frame(truth, made, moment)[:-1]
                    terms["features"] = losses.feature_matching(maps, real, [config.feature_weight] * len(maps))
        if self.networks.pair_discriminator is not None:
            assert current is not None
            with frozen_power_iteration(self.networks.pair_discriminator):
                score = self.networks.pair_discriminator(frame, current, moment.step)
            terms["pair_gan"] = config.pair_gan_weight * losses.log_generator(score)
        return terms

    def frame_discriminator(self, made: Made, moment: Moment) -> Tensor:
        """D1's loss. Its vectors u are kept from the fake pass alone (release)."""
        assert self.networks.frame_discriminator is not None
        with frozen_power_iteration(self.networks.frame_discriminator):
            real = self.judge_frame(moment.truth, made, moment)[-1]
        return losses.log_discriminator(real, self.judge_frame(made.drawn.frame.detach(), made, moment)[-1])

    def pair_discriminator(self, made: Made, moment: Moment, current: Tensor | None) -> Tensor:
        """D2's loss; real pairs are of true frames, fake ones of the frame made now and the one made before."""
        judge = self.networks.pair_discriminator
        assert judge is not None
        assert current is not None
        with frozen_power_iteration(judge):
            real = judge(moment.truth, moment.current, moment.step)
        return losses.log_discriminator(real, judge(made.drawn.frame.detach(), current, moment.step))

    def judge_frame(self, frame: Tensor, made: Made, moment: Moment) -> list[Tensor]:
        """D1's maps and score. It is told x_t as a fact: no gradient goes to E2 that way."""
        judge = self.networks.frame_discriminator
        assert judge is not None
        crop = crops(frame, moment.corners) if self.config.crop_branch else None
        maps: list[Tensor] = judge(frame, crop, made.motion.detach() if self.config.motion_condition else None)
        return maps

    def painting(self, drawn: Drawn, moment: Moment) -> dict[str, Tensor]:
        """The terms of a painter alone, weighted: the reconstruction of the frame, and of what is painted."""
        weight, weights = self.config.reconstruction_weight, self.weights(moment)
        return {
            "frame": weight * self.distance(drawn.frame, moment.truth, weights),
            "paint": weight * self.distance(drawn.paint, moment.truth, weights),
        }

    def standing(self, moment: Moment) -> Tensor:
        """What the reconstruction loss would be if the frame were the still."""
        weight = self.config.reconstruction_weight
        return weight * self.distance(moment.still, moment.truth, self.weights(moment))

    def weights(self, moment: Moment) -> Tensor | None:
        """How much each pixel counts in the losses of whole frames; None for all alike."""
        moving, painting = self.config.moving_focus, self.config.painting_focus
        if not (moving or painting):
            return None
        changed = losses.frame_difference(moment.still, moment.truth, CHANGED)
        weights = 1 + moving * changed
        if painting:
            assert moment.camera is not None
            # Where neither shows the truth, somebody has to paint: limbs, and what the object uncovers.
            moved = carrying.moved(moment.still, moment.camera.shift)
            uncovered = losses.frame_difference(moved, moment.truth, CHANGED)
            weights = weights + painting * torch.minimum(changed, uncovered)
        return weights / weights.mean()

    def distance(self, made: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean squared or absolute difference; what the paper writes as l2 is the mean square, as in the release."""
        if self.config.distance == "absolute":
            return losses.weighted_l1(made, truth, weights)
        square = F.mse_loss(made.float(), truth.float(), reduction="none")
        return square.mean() if weights is None else (square * weights).mean()

    def perceptual(self, made: Tensor, truth: Tensor, corners: Tensor) -> Tensor:
        """Distance of the maps of a frozen VGG, of the crop or of the whole frame."""
        config = self.config
        assert self.perceiver is not None
        self.perceiver.to(made.device)
        if config.perceptual_region == "crop":
            made, truth = crops(made, corners), crops(truth, corners)
        maps = self.perceiver(to_perceiver(made, config))
        with torch.no_grad():
            wanted = self.perceiver(to_perceiver(truth, config))
        return losses.feature_matching(
            maps, wanted, config.perceptual_layers, squared=config.perceptual_distance == "square"
        )


def to_perceiver(pictures: Tensor, config: StrokesConfig) -> Tensor:
    """From [-1, 1] to the [0, 1] that VGG expects, or to 1/255 of it.

    The release subtracts means of 0 to 255 from values in [-1, 1]: contrast is 1/127 of what VGG has learned from, so
    the loss is far weaker than its weight says.
    """
    return (pictures + 1) / 2 if config.perceptual_input == "scaled" else pictures / 255


def crop_corners(points: Tensor, config: StrokesConfig, rng: torch.Generator) -> Tensor:
    """Where crops of half the side begin: around the point, shifted by up to a quarter along one axis.

    Args:
        points: N x 2, (x, y) in pixels.
        config: `crop_place` says whether rows and columns are swapped and an eighth of the side is added, as in the
            release.
        rng: the shifts are drawn from it.

    Returns:
        N x 2 whole (x, y), each from 0 to half the side.
    """
    quarter = config.size // 4
    centres = (points + 0.5).floor().long()
    if config.crop_place == "release":
        centres = centres.flip(-1) + config.size // 8
    shifts = torch.randint(-quarter, quarter + 1, (len(points),), generator=rng).to(points.device)
    centres = torch.stack([centres[:, 0] + shifts, centres[:, 1]], dim=1)
    return centres.clamp(quarter, 3 * quarter) - quarter


def crops(pictures: Tensor, corners: Tensor) -> Tensor:
    """The part of half the side that begins at (x, y) of each picture; N x C x s x s -> N x C x s/2 x s/2."""
    side = pictures.shape[-1] // 2
    pairs = zip(pictures, corners.tolist(), strict=True)
    return torch.stack([picture[:, y : y + side, x : x + side] for picture, (x, y) in pairs])


def perceiver(config: StrokesConfig) -> nn.Module:
    """The frozen VGG of the perceptual loss.

    Raises:
        StillmotionError: no weights given, not those of the digest, or not of this network.
    """
    if config.perceptual_network == "random-vgg16":
        return vgg.random_vgg().eval().requires_grad_(False)
    file, _, digest = config.perceptual_weights.rpartition("@")
    if not file:
        raise StillmotionError(
            f"The perceptual loss needs the weights of {config.perceptual_network}: add --set "
            "perceptual_weights=FILE.safetensors@SHA256 (names as in torchvision), or --set "
            "perceptual_network=random-vgg16, or --set perceptual_weight=0."
        )
    network = vgg.VGG(16 if config.perceptual_network == "vgg16" else 19)
    tensors = read_weights(Path(file), digest.lower())
    fill(network, {name: value for name, value in tensors.items() if name.startswith("features.")}, file)
    return network.eval().requires_grad_(False)
