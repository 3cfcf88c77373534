"""The scene: the person's place, the background, the camera and the light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stillmotion.worlds.colours import Colour, jitter
from stillmotion.worlds.textures import Surface, sample_ground, sample_wall


@dataclass(frozen=True)
class Camera:
    """Camera shake: two slow sines per axis; strength 0 is a tripod."""

    shake: float  # amplitude, in picture heights
    periods: tuple[float, ...]  # four periods in frames (x, x, y, y)
    phases: tuple[float, ...]  # four phases in radians
    follow: bool  # pans with a walking or running person from the start, or only after most of the picture is crossed
    treadmill: bool = False  # does not pan, although the person stays in the picture

    def offset(self, times: np.ndarray) -> np.ndarray:
        """Return the shift of the picture's content at each time, T x 2 in picture heights."""
        waves = [np.sin(2 * np.pi * times / p + q) for p, q in zip(self.periods, self.phases, strict=True)]
        return self.shake * np.stack([waves[0] + 0.5 * waves[1], waves[2] + 0.5 * waves[3]], axis=-1)


@dataclass(frozen=True)
class Scene:
    """Everything in the picture but the person; lengths in picture heights."""

    framing: str  # `full` (the whole body) or `knees` (cut off below, as in many recordings)
    stature: float  # the person's height
    x: float  # the person's place (0 = left border, 1 = right border)
    floor: float  # y of the feet (above 1 = below the picture's lower border)
    facing: int  # +1 or -1; mirrors people seen from the side
    wall: Surface
    ground: Surface | None  # below `horizon`, or None when the wall fills the picture
    horizon: float  # y of the line between wall and ground
    shadow: float  # strength of the soft shadow on the ground, 0 to 1
    camera: Camera
    tint: Colour  # of the light
    light_side: float  # side of the light, -1 left to +1 right
    flicker: float  # amplitude of slow brightness changes, as a share
    flicker_period: float  # frames
    noise: float  # standard deviation of the sensor's noise, in [0, 1] brightness
    noise_seed: int
    softness: float  # blur of the lens, standard deviation
    shutter: float  # exposure as a share of a frame's time; 0 = no motion blur


def sample_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera: a tripod half of the time, else handheld with up to about one percent of shake."""
    shake = 0.0 if rng.random() < 0.5 else rng.uniform(0.001, 0.008)
    periods, phases = tuple(rng.uniform(15, 90, 4).tolist()), tuple(rng.uniform(0, 2 * np.pi, 4).tolist())
    return Camera(shake, periods, phases, bool(rng.random() < 0.5))


# The person's height (from, to; in picture heights) for actions that are always shown whole.
_WHOLE = {
    "walk": (0.7, 0.9),
    "jog": (0.5, 0.78),
    "run": (0.48, 0.74),
    "squat": (0.66, 0.88),
    "swing": (0.5, 0.62),
    "throw": (0.56, 0.7),
}


def distant_scene(rng: np.random.Generator, scene: Scene) -> Scene:
    """Return the scene seen by a static camera that is further away.

    The whole person is in the picture at first: `render.crossing_position` starts 0.36 to 0.4 of a side behind `x`.
    """
    stature, lower = rng.uniform(0.34, 0.46), rng.uniform(0.0, 0.25)
    return replace(
        scene,
        stature=stature,
        x=0.5 + scene.facing * rng.uniform(0.03, 0.06),
        floor=scene.floor - lower,
        horizon=scene.horizon - lower,
        camera=replace(scene.camera, follow=False),
    )


def sample_scene(rng: np.random.Generator, action: str) -> Scene:
    """Draw a scene fit for the action: raised arms and outstretched hands stay inside the picture."""
    raised = action in ("wave1", "wave2", "jack")
    full = bool(action in _WHOLE or rng.random() < 0.45)
    if full:
        # Raised arms reach about 1.25 statures, jumping adds a little.
        stature = rng.uniform(*_WHOLE.get(action, (0.6, 0.72) if raised else (0.7, 0.9)))
        floor = rng.uniform(0.9, 0.975)
    else:
        stature = rng.uniform(0.78, 0.96)
        # The crown at 0.27 to 0.36 leaves room for raised arms; the lower border cuts the shins.
        floor = max(rng.uniform(0.27, 0.36) + stature, 1.1)
    facing = 1 if rng.random() < 0.5 else -1
    x = 0.5 + rng.normal(0, 0.02 if raised else 0.05)
    if action in ("bend", "throw"):
        x -= 0.13 * stature * facing
    horizon = floor - rng.uniform(0.03, 0.12) if full else 2.0
    ground = sample_ground(rng) if full and rng.random() < 0.75 else None
    tint = jitter(rng, (0.95, 0.95, 0.95), 0.04)
    return Scene(
        framing="full" if full else "knees",
        stature=stature,
        x=float(np.clip(x, 0.3, 0.7)),
        floor=floor,
        facing=facing,
        wall=sample_wall(rng),
        ground=ground,
        horizon=horizon,
        shadow=rng.uniform(0.15, 0.6) if ground is not None else 0.0,
        camera=sample_camera(rng),
        tint=tint,
        light_side=rng.uniform(-1, 1),
        flicker=0.0 if rng.random() < 0.5 else rng.uniform(0.002, 0.02),
        flicker_period=rng.uniform(6, 60),
        noise=0.0 if rng.random() < 0.3 else rng.uniform(0.002, 0.018),
        noise_seed=int(rng.integers(2**31)),
        softness=0.007 * rng.random() ** 2,
        shutter=rng.uniform(0.2, 0.7) if rng.random() < 0.3 else 0.0,
    )
