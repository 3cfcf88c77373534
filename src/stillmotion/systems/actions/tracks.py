"""Ours: motion generated as a rectified flow over keypoint tracks; no posterior that could collapse.

A track says how far the keypoints of a window of frames are from those of its first frame, in units of the body's
size, so that place and size of the figure are no business of the network's. The network is given the action, the side
from which it is seen, the first frame's keypoints, and the frames that are known already, so one window continues
another.

Rectified flow: Liu, Gong and Liu, "Flow Straight and Fast" (ICLR 2023); guidance: Ho and Salimans, "Classifier-Free
Diffusion Guidance" (2022).

Shapes: N tracks, T frames of a window, K keypoints, D = 5 K numbers of a track in a frame.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.keypoints.networks import Keypoints
from stillmotion.systems.actions.config import TrackConfig

LEAST_SIZE = 0.02
"""Of a body, normalised: keypoints that lie in one point have no size to measure by."""

LEAST_DEVIATION = 0.02
"""Of a keypoint's gaussian, normalised: about half a pixel of 64. Narrower ones have no logarithm to speak of."""

SHAPE_SCALE = 0.25
"""Weight of the gaussians' shapes beside the places: where a keypoint is matters more."""


class Condition(NamedTuple):
    """What a track is generated for."""

    first: Keypoints  # N x K, of the window's first frame
    action: Tensor  # N, `int64`; the number of actions for none
    side: Tensor  # N, `int64`; the number of sides for none
    known: Tensor  # N x T x D, a track of which ...
    given: Tensor  # N, `int64`: ... so many frames are known; at least 1, for the first is all zero


class TrackFlow(nn.Module):
    """Velocity of a track on its straight way from noise to motion: a small transformer over the window's frames.

    Args:
        keypoints: K.
        actions: how many there are.
        sides: how many there are.
        config: sizes.
    """

    scale: Tensor  # standard deviation of the training tracks, D

    def __init__(self, keypoints: int, actions: int, sides: int, config: TrackConfig):
        super().__init__()
        self.config, self.width = config, 5 * keypoints
        self.no_action, self.no_side = actions, sides
        width = config.width
        self.inputs = nn.Linear(2 * self.width + 1, width)
        self.pose = nn.Sequential(nn.Linear(self.width + 3, width), nn.SiLU(), nn.Linear(width, width))
        self.moment = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.action = nn.Embedding(actions + 1, width)  # the last one: none
        self.side = nn.Embedding(sides + 1, width)
        layer = nn.TransformerEncoderLayer(
            width, config.heads, 2 * width, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, config.blocks, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, self.width)
        self.register_buffer("scale", torch.ones(self.width))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, track: Tensor, moment: Tensor, condition: Condition) -> Tensor:
        """Velocities, N x T x D, of tracks in units of `scale`.

        Args:
            track: N x T x D, on its way.
            moment: N, 0 for noise and 1 for motion.
            condition: what it is to be; `known` in units of `scale` too.
        """
        frames = torch.arange(track.shape[1], device=track.device)
        seen = (frames[None] < condition.given[:, None]).to(track)[..., None]  # N x T x 1
        tokens = self.inputs(torch.cat([track * (1 - seen), condition.known * seen, seen], dim=-1))
        about = self.pose(describe(condition.first)) + self.action(condition.action) + self.side(condition.side)
        about = about + self.moment(sinusoids(1000 * moment, self.config.width))
        tokens = tokens + about[:, None] + sinusoids(frames.to(track), self.config.width)
        made: Tensor = self.head(self.blocks(tokens))
        return made

    def loss(self, track: Tensor, valid: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity over frames that are valid and not known.

        Args:
            track: N x T x D, of clips.
            valid: N x T, 0 behind a clip's end.
            condition: with `known` = `track`; action and side are left out now and then, for guidance and for people
                who do not say them.
            generator: of noise, moments and what is left out; on the CPU.
        """
        n, device = len(track), track.device
        track = track / self.scale
        noise = torch.randn(track.shape, generator=generator).to(device)
        # More often in the middle of the way than at its ends, where the velocity is easy (Esser et al., 2024).
        moment = torch.sigmoid(torch.randn(n, generator=generator)).to(device)
        left_out = (torch.rand(2, n, generator=generator) < self.config.unconditional).to(device)
        action = torch.where(left_out[0], torch.full_like(condition.action, self.no_action), condition.action)
        side = torch.where(left_out[1], torch.full_like(condition.side, self.no_side), condition.side)
        mixed = torch.lerp(noise, track, moment[:, None, None])
        velocity = self(mixed, moment, condition._replace(action=action, side=side, known=track))
        frames = torch.arange(track.shape[1], device=device)
        counts = valid * (frames[None] >= condition.given[:, None]).to(valid)
        error = (velocity - (track - noise)).square().mean(-1)
        return (error * counts).sum() / counts.sum().clamp_min(1)

    @torch.no_grad()
    def sample(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """Tracks, N x T x D, from noise that the generator draws on the CPU; frames that are known stay."""
        device, steps = condition.known.device, self.config.steps
        known = condition.known / self.scale
        condition = condition._replace(known=known)
        guided = self.config.guidance != 1
        if guided:  # both velocities in one pass
            without = condition._replace(action=torch.full_like(condition.action, self.no_action))
            condition = join(condition, without)
        track = torch.randn(known.shape, generator=generator).to(device)
        for step in range(steps):
            both = torch.cat([track, track]) if guided else track
            velocity = self(both, torch.full((len(both),), step / steps, device=device), condition)
            if guided:
                asked, free = velocity.chunk(2)
                velocity = torch.lerp(free, asked, self.config.guidance)
            track = track + velocity / steps
        seen = torch.arange(track.shape[1], device=device)[None] < condition.given[: len(track), None]
        track = smooth(torch.where(seen[..., None], known, track), self.config.smoothing)
        return torch.where(seen[..., None], known, track) * self.scale


def join(one: Condition, other: Condition) -> Condition:
    """Two conditions as one of more tracks."""
    first = Keypoints(*(torch.cat(parts) for parts in zip(one.first, other.first, strict=True)))
    return Condition(first, *(torch.cat(parts) for parts in zip(one[1:], other[1:], strict=True)))


# --- tracks ---------------------------------------------------------------------------------------------------------


def body(mean: Tensor) -> tuple[Tensor, Tensor]:
    """Centres, N x 1 x 2, and sizes, N x 1 x 1 (root mean square distance from it), of keypoints N x K x 2."""
    centre, size = geometry.place(mean)
    return centre[:, None], size.clamp_min(LEAST_SIZE)[:, None, None]


def describe(first: Keypoints) -> Tensor:
    """A pose in numbers: layout, shapes, place and size; N x (5 K + 3)."""
    centre, size = body(first.mean)
    layout = ((first.mean - centre) / size).flatten(1)
    return torch.cat([layout, shape_of(first.covariance).flatten(1), centre.flatten(1), size.flatten(1).log()], dim=1)


def to_track(frames: Keypoints, first: Keypoints) -> Tensor:
    """Keypoints N x T x K as tracks, N x T x D: offsets from the first frame's, N x K."""
    _, size = body(first.mean)
    place = (frames.mean - first.mean[:, None]) / size[:, None]
    shape = SHAPE_SCALE * (shape_of(frames.covariance) - shape_of(first.covariance)[:, None])
    return torch.cat([place.flatten(2), shape.flatten(2)], dim=-1)


def from_track(track: Tensor, first: Keypoints) -> Keypoints:
    """The inverse of `to_track`; gaussians no narrower than `LEAST_DEVIATION`."""
    n, frames, width = track.shape
    count = width // 5
    _, size = body(first.mean)
    place = track[..., : 2 * count].view(n, frames, count, 2)
    shape = track[..., 2 * count :].view(n, frames, count, 3) / SHAPE_SCALE
    return Keypoints(
        first.mean[:, None] + size[:, None] * place,
        covariance_of(shape + shape_of(first.covariance)[:, None]),
    )


def shape_of(covariance: Tensor) -> Tensor:
    """Three free numbers for a covariance, ... x 2 x 2 -> ... x 3.

    Of its Cholesky factor, with a = L00, b = L10 and c = L11: log a, log c and b / a.
    """
    a = covariance[..., 0, 0].clamp_min(LEAST_DEVIATION**2).sqrt()
    b = covariance[..., 1, 0] / a
    c = (covariance[..., 1, 1] - b.square()).clamp_min(LEAST_DEVIATION**2).sqrt()
    return torch.stack([a.log(), c.log(), b / a], dim=-1)


def covariance_of(shape: Tensor) -> Tensor:
    """The inverse of `shape_of`."""
    least = math.log(LEAST_DEVIATION)
    a, c = shape[..., 0].clamp(least, 0).exp(), shape[..., 1].clamp(least, 0).exp()
    b = a * shape[..., 2].clamp(-4, 4)
    rows = torch.stack([a * a, a * b], dim=-1), torch.stack([a * b, b * b + c * c], dim=-1)
    return torch.stack(rows, dim=-2)


def smooth(track: Tensor, deviation: float) -> Tensor:
    """A gaussian of so many frames over time, ends replicated; N x T x D. What is sampled trembles, people do not."""
    if not deviation:
        return track
    reach = math.ceil(2.5 * deviation)
    places = torch.arange(-reach, reach + 1, device=track.device)
    weights = torch.softmax(-0.5 * (places / deviation).square(), dim=0).to(track)
    padded = F.pad(track.mT, (reach, reach), mode="replicate")  # N x D x (T + 2 reach)
    smoothed = F.conv1d(padded.flatten(0, 1)[:, None], weights[None, None])  # N D x 1 x T
    return smoothed.view(track.shape[0], track.shape[2], -1).mT


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines of positions, ... -> ... x width, wavelengths from 2 pi to 10,000 (Vaswani et al., 2017)."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=positions.device) / half)
    angles = positions[..., None] * rates
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, width - 2 * half))
