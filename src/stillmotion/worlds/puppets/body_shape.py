"""Body shape: proportions in units of the person's own stature (head top to floor = 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BodyShape:
    """Proportions of one person; every length is a fraction of the stature."""

    head: float  # height of the head, chin to crown
    head_width: float  # width of the head over its height
    neck: float  # from the shoulder line to the chin
    shoulder: float  # half the distance between the shoulder joints
    hip: float  # half the distance between the hip joints
    torso: float  # from the hip joints' height to the shoulder joints' height
    upper_arm: float  # shoulder to elbow
    forearm: float  # elbow to wrist
    hand: float  # wrist to finger tips
    thigh: float  # hip to knee
    shin: float  # knee to ankle
    ankle: float  # height of the ankle joint over the floor
    foot: float  # length of the foot
    girth: float  # thickness of limbs and belly, 1 = average
    chest: float  # half the torso's width under the arms, seen from the front
    waist: float  # half the torso's width at the waist
    seat: float  # half the torso's width at the hips
    depth: float  # torso depth over torso width, for the view from the side

    @property
    def ankle_radius(self) -> float:
        """Half the width of the ankle."""
        return 0.021 + 0.003 * self.girth


def sample_body_shape(rng: np.random.Generator) -> BodyShape:
    """Draw a body shape: thin to heavy, broad-shouldered to broad-hipped, child-like to long-legged."""
    child = float(rng.random() < 0.12)
    girth = float(np.clip(rng.normal(1.0, 0.16), 0.74, 1.45))
    # -1: broad shoulders, narrow hips; +1: narrow shoulders, broad hips.
    figure = rng.uniform(-1, 1)
    head = rng.uniform(0.125, 0.15) + 0.035 * child
    neck = rng.uniform(0.02, 0.036)
    ankle = rng.uniform(0.036, 0.044)
    upright = 1.0 - head - neck - ankle
    torso = upright * rng.uniform(0.355, 0.395)
    legs = upright - torso
    thigh = legs * rng.uniform(0.495, 0.53)
    arm = rng.uniform(0.30, 0.34) - 0.02 * child
    upper = arm * rng.uniform(0.50, 0.54)
    shoulder = (0.104 - 0.009 * figure + rng.normal(0, 0.004)) * (0.85 + 0.15 * girth)
    wide = 0.55 + 0.45 * girth
    return BodyShape(
        head=head,
        head_width=rng.uniform(0.68, 0.8),
        neck=neck,
        shoulder=shoulder,
        hip=(0.047 + 0.005 * figure) * (0.8 + 0.2 * girth),
        torso=torso,
        upper_arm=upper,
        forearm=arm - upper,
        hand=rng.uniform(0.085, 0.1),
        thigh=thigh,
        shin=legs - thigh,
        ankle=ankle,
        foot=rng.uniform(0.13, 0.155),
        girth=girth,
        chest=(0.098 - 0.006 * figure) * wide,
        waist=(0.084 - 0.007 * figure + rng.normal(0, 0.003)) * (0.4 + 0.6 * girth),
        seat=(0.094 + 0.007 * figure) * wide,
        depth=rng.uniform(0.66, 0.78),
    )
