"""What hands and forces do to a still while an animation runs: from controls to handles, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stillmotion.systems.pokes.handles import Handles, Oscillators, Swing, advance, rise_share

SAME = 0.06
"""Normalised: a poke so near to a handle that is there takes it over, with the motion that it has."""

RESTS = 0.003, 0.0006
"""Offset and velocity, normalised, below which a free handle is at rest and is removed: 0.1 and 0.02 of 64 pixels."""


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
            self.swing = Swing.of(self.oscillators, *(self._tensor(v) for v in (offset, self.velocity)))
            return
        middle, pull = frame - self.begin - 0.5, None
        if self.force and 0 < middle < self.rise:
            pull = self._tensor(np.sin(np.pi * middle / self.rise) ** 2 * self.vector)
        self.swing = advance(self.swing, self.oscillators, pull)
        self.velocity = self.offset - before

    def rests(self, frame: int) -> bool:
        """Whether it is free, without a force, and has come to rest."""
        if self.held(frame) or (self.force and frame - self.begin < self.rise):
            return False
        speed = self.swing.total()[1].norm()
        return bool(np.hypot(*self.offset) < RESTS[0] and speed < RESTS[1])

    def _tensor(self, value: np.ndarray) -> Tensor:
        return torch.from_numpy(value.astype(np.float32))[None, None].to(self.swing.offset.device)


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
        vectors = ([getattr(hand, name) for hand in hands] for name in ("place", "offset", "velocity"))
        return Handles(*(stacked(rows) for rows in vectors), held, present)

    def _hand(self, frame: int, place: np.ndarray, offset: np.ndarray) -> Hand:
        """The handle at a place: one that is there, or a new one."""
        for hand in self.hands:
            if np.hypot(*(hand.place - place)) < SAME:
                return hand
        found = self.swings(torch.from_numpy(place.astype(np.float32))[None, None].to(self.device))
        known = torch.from_numpy(offset.astype(np.float32))[None, None].to(self.device)
        swing = Swing.of(found, known, torch.zeros_like(known))
        self.hands.append(Hand(place, found, swing, frame, offset, np.zeros(2), 1))
        return self.hands[-1]
