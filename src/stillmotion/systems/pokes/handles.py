"""Handles: the places of a still that are held, pushed or swing, and how they move by themselves (ours).

A hand that holds a place says where it goes. What is let go of or pushed swings back as damped oscillators do, whose
frequencies and dampings a network predicts from the still at that place: however long it runs, it comes to rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import geometry

MODES = 2
"""Oscillators per handle: a leaf swings on its stalk, and the stalk with its branch."""

MAPS = 12
"""Channels of `handle_maps`."""

FREQUENCY, DAMPING = 0.4, 0.15
"""Where the prediction starts: radians per frame, and the share of the critical damping."""

SAME = 0.06
"""Normalised: a poke so near to a handle that is there takes it over, with the motion that it has."""

RESTS = 0.003, 0.0006
"""Offset and velocity, normalised, below which a free handle is at rest and is removed: 0.1 and 0.02 of 64 pixels."""

_NEAR, _FAR = 0.05, 0.25  # standard deviations of the gaussians, normalised: 1.6 and 8 of 64 pixels
_OFFSET_SCALE, _VELOCITY_SCALE = 0.25, 0.05  # typical values, normalised
_SOFTNESS = 0.05  # normalised: within this distance of several handles they share a pixel


class Handles(NamedTuple):
    """M handles in each of N samples; coordinates are normalised, (x, y)."""

    place: Tensor  # N x M x 2, where they are in the still
    offset: Tensor  # N x M x 2, how far they have moved since
    velocity: Tensor  # N x M x 2, per frame
    held: Tensor  # N x M, 1 for those that a hand holds, 0 for those that are free
    present: Tensor  # N x M, 1; 0 for what only fills up the samples


class Oscillators(NamedTuple):
    """K modes of M handles in each of N samples."""

    frequency: Tensor  # N x M x K, radians per frame
    damping: Tensor  # N x M x K, share of the critical damping, in (0, 1)
    share: Tensor  # N x M x K, of the offset; they sum to one


class Swing(NamedTuple):
    """The state of oscillators."""

    offset: Tensor  # N x M x K x 2, normalised
    velocity: Tensor  # N x M x K x 2, per frame

    @classmethod
    def of(cls, oscillators: Oscillators, offset: Tensor, velocity: Tensor) -> Swing:
        """The state of handles whose offset and velocity are known, N x M x 2 each, spread over their modes."""
        share = oscillators.share[..., None]
        return cls(share * offset[:, :, None], share * velocity[:, :, None])

    def total(self) -> tuple[Tensor, Tensor]:
        """Offset and velocity of the handles, N x M x 2 each."""
        return self.offset.sum(2), self.velocity.sum(2)


def advance(swing: Swing, oscillators: Oscillators, pull: Tensor | None = None) -> Swing:
    """The state a frame later: the exact solution of a damped oscillator.

    Args:
        swing: the state.
        oscillators: of the same handles.
        pull: N x M x 2, the offset that the force during this frame would hold if it lasted; None without a force.
    """
    rate, ratio = oscillators.frequency[..., None], oscillators.damping[..., None]
    decay, own = ratio * rate, rate * (1 - ratio**2).sqrt()
    aim = torch.zeros_like(swing.offset) if pull is None else oscillators.share[..., None] * pull[:, :, None]
    away, speed = swing.offset - aim, swing.velocity
    lag = (speed + decay * away) / own
    fall, cosine, sine = torch.exp(-decay), torch.cos(own), torch.sin(own)
    offset = fall * (away * cosine + lag * sine)
    velocity = -decay * offset + fall * own * (lag * cosine - away * sine)
    return Swing(aim + offset, velocity)


class OscillatorHead(nn.Module):
    """Oscillators of places of a still, from an encoder's maps at these places."""

    def __init__(self, channels: int, hidden: int = 64):
        """Args: channels of all maps together."""
        super().__init__()
        self.hidden = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden, 3 * MODES)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Oscillators:
        """N x M x channels."""
        rate, damping, share = self.out(F.silu(self.hidden(features.float()))).chunk(3, dim=-1)
        spread = torch.linspace(0, 1, MODES, device=features.device)  # the modes start at different frequencies
        frequency = FREQUENCY * torch.exp((rate + spread).clamp(-3, 2))
        start = torch.logit(torch.tensor(DAMPING, device=features.device))
        ratio = torch.sigmoid(damping + start).clamp(0.005, 0.98)
        return Oscillators(frequency, ratio, (share - 2 * spread).softmax(-1))


def sample_at(maps: Tensor, places: Tensor) -> Tensor:
    """Maps N x C x h x w at places N x M x 2, normalised, bilinearly; N x M x C, float32."""
    return geometry.warp(maps.float(), places[:, :, None].float(), padding="border")[..., 0].transpose(1, 2)


class Reach(NamedTuple):
    """How handles share the pixels of a map; see `spread`."""

    weights: Tensor  # N x M x h x w, sum to one over the handles; zero where none is present
    away: Tensor  # N x M x 2 x h x w, from each handle's present place to each pixel, normalised


def reach(handles: Handles, size: geometry.Size) -> Reach:
    """Weights of the handles at every pixel of a map: the nearest one has nearly all."""
    grid = geometry.identity_grid(size, handles.place).permute(2, 0, 1)  # 2 x h x w
    away = grid - (handles.place + handles.offset)[..., None, None]
    near = handles.present[..., None, None] / (away.square().sum(2) + _SOFTNESS**2).square()
    return Reach(near / near.sum(1, keepdim=True).clamp_min(1e-12), away)


def spread(values: Tensor, weights: Tensor) -> Tensor:
    """Values of handles, N x M x C, over a map by the weights N x M x h x w; N x C x h x w."""
    return torch.einsum("nmc,nmhw->nchw", values, weights)


def handle_maps(handles: Handles, shared: Reach, size: geometry.Size) -> Tensor:
    """What the decoder reads of the handles: N x `MAPS` x h x w, float32.

    Gaussians of two widths where the handles were and where they are, their offset and velocity and whether a hand
    holds them, the pixel's place relative to the nearest handle, and how near that is.
    """
    grid = geometry.identity_grid(size, handles.place).permute(2, 0, 1)
    before = grid - handles.place[..., None, None]
    bumps = []
    for away in (before, shared.away):
        distance = away.square().sum(2)  # N x M x h x w
        for width in (_NEAR, _FAR):
            bump = torch.exp(-0.5 * distance / width**2) * handles.present[..., None, None]
            bumps.append(bump.amax(1, keepdim=True))
    values = [handles.offset / _OFFSET_SCALE, handles.velocity / _VELOCITY_SCALE, handles.held[..., None]]
    carried = spread(torch.cat(values, dim=-1), shared.weights)  # N x 5 x h x w
    relative = (shared.weights[:, :, None] * shared.away).sum(1)
    near = torch.exp(-relative.norm(dim=1, keepdim=True)) * handles.present.amax(1)[:, None, None, None]
    return torch.cat([*bumps, carried, relative, near], dim=1)


def rise_share(time: float) -> float:
    """Minimum-jerk curve from 0 (time 0) to 1 (time 1): how a hand moves; as in the world `plants`."""
    s = min(max(time, 0.0), 1.0)
    return s**3 * (10 - 15 * s + 6 * s * s)


# --- what hands and forces do while an animation runs ---------------------------------------------------------------


@dataclass
class Hand:
    """One handle and what acts on it; coordinates are normalised, (x, y)."""

    place: np.ndarray  # 2, in the still
    oscillators: Oscillators  # 1 x 1 x K
    swing: Swing  # 1 x 1 x K x 2
    begin: int  # frame at which the poke starts
    start: np.ndarray  # 2, its offset then
    vector: np.ndarray  # 2, how far a hand takes it from there, or a force would hold it
    rise: int  # frames until it is there; of a force, its duration
    release: int | None = None  # frame from which on no hand holds it; None: the hand holds on
    force: bool = False  # pushed, and never held
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # of the last frame

    def held(self, frame: int) -> bool:
        """Whether a hand holds it at a frame."""
        return not self.force and (self.release is None or frame < self.release)

    def pushed(self, frame: int) -> bool:
        """Whether a force acts on it at a frame."""
        return self.force and frame - self.begin <= self.rise

    @property
    def offset(self) -> np.ndarray:
        """How far it has moved, 2."""
        return np.asarray(self.swing.total()[0][0, 0].cpu().numpy(), np.float64)

    def step(self, frame: int) -> None:
        """Go on to a frame."""
        before = self.offset
        if self.held(frame):
            offset = self.start + rise_share((frame - self.begin) / self.rise) * self.vector
            self.velocity = offset - before
            self.swing = Swing.of(self.oscillators, self._row(offset), self._row(self.velocity))
            return
        middle, pull = frame - self.begin - 0.5, None
        if self.force and 0 < middle < self.rise:
            pull = self._row(np.sin(np.pi * middle / self.rise) ** 2 * self.vector)
        self.swing = advance(self.swing, self.oscillators, pull)
        self.velocity = self.offset - before

    def rests(self, frame: int) -> bool:
        """Whether it is free, without a force, and has come to rest."""
        if self.held(frame) or self.pushed(frame):
            return False
        speed = self.swing.total()[1].norm()
        return bool(np.hypot(*self.offset) < RESTS[0] and speed < RESTS[1])

    def _row(self, value: np.ndarray) -> Tensor:
        return one_handle(value, self.swing.offset.device)


def one_handle(value: np.ndarray, device: torch.device) -> Tensor:
    """The value (2) of one handle of one sample; 1 x 1 x 2, float32."""
    return torch.from_numpy(value.astype(np.float32))[None, None].to(device)


class Interaction:
    """All handles of a running animation.

    Args:
        swings: the oscillators of places of the still, 1 x M x 2 normalised; see `FieldNetwork.swings`.
        device: of the tensors.
    """

    def __init__(self, swings: Callable[[Tensor], Oscillators], device: torch.device):
        self.swings, self.device = swings, device
        self.hands: list[Hand] = []

    def add(
        self, frame: int, place: np.ndarray, offset: np.ndarray, vector: np.ndarray, rise: int, release: int | None
    ) -> None:
        """Take a place with a hand.

        Args:
            frame: the frame at which it starts.
            place: 2, where it is in the still.
            offset: 2, how far that place has moved by now.
            vector: 2, how far the hand takes it from where it is.
            rise: frames until it is there.
            release: the frame from which on no hand holds it; None: it is held on.
        """
        hand = self._hand(frame, place, offset)
        hand.vector, hand.rise, hand.release, hand.force = vector, rise, release, False
        hand.begin, hand.start = frame, hand.offset

    def push(self, frame: int, place: np.ndarray, offset: np.ndarray, vector: np.ndarray, duration: int) -> None:
        """Push a place with a force from a frame on; arguments as for `add`."""
        hand = self._hand(frame, place, offset)
        hand.vector, hand.rise, hand.release, hand.force = vector, duration, frame, True
        hand.begin = frame

    def let_go(self, frame: int) -> None:
        """Nothing is held from a frame on."""
        for hand in self.hands:
            if hand.held(frame):
                hand.release = frame

    def step(self, frame: int) -> None:
        """Go on to a frame; what has come to rest is forgotten."""
        for hand in self.hands:
            hand.step(frame)
        self.hands = [hand for hand in self.hands if not hand.rests(frame)]

    def handles(self, frame: int) -> Handles:
        """The handles of a frame, 1 x M; one that is not present if there is none."""

        def stacked(rows: list[np.ndarray]) -> Tensor:
            values = np.stack(rows) if rows else np.zeros((1, 2))
            return torch.from_numpy(values.astype(np.float32))[None].to(self.device)

        hands = self.hands
        held = torch.tensor([[float(hand.held(frame)) for hand in hands] or [0.0]], device=self.device)
        present = torch.full_like(held, float(bool(hands)))
        place, offset, velocity = (
            stacked([getattr(hand, name) for hand in hands]) for name in ("place", "offset", "velocity")
        )
        return Handles(place, offset, velocity, held, present)

    def _hand(self, frame: int, place: np.ndarray, offset: np.ndarray) -> Hand:
        """The handle at a place: one that is there, or a new one."""
        for hand in self.hands:
            if np.hypot(*(hand.place - place)) < SAME:
                return hand
        found, known = self.swings(one_handle(place, self.device)), one_handle(offset, self.device)
        swing = Swing.of(found, known, torch.zeros_like(known))
        self.hands.append(Hand(place, found, swing, frame, offset, np.zeros(2), 1))
        return self.hands[-1]
