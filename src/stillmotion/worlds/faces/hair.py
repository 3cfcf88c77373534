"""Hair: a shell over the head's mesh, and a sprite of what hangs behind the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.easing import smoothstep
from stillmotion.worlds.faces.appearance import Appearance
from stillmotion.worlds.faces.grid import AZIMUTH, ROWS, Grid, S, T
from stillmotion.worlds.faces.texture_map import TextureMap
from stillmotion.worlds.sprites import Canvas, Sprite
from stillmotion.worlds.textures import value_noise

_DEGREES = (0, 15, 30, 45, 55, 65, 75, 82, 92, 105, 118, 131)


@dataclass(frozen=True)
class _Style:
    """A haircut."""

    line: tuple[float, ...]  # the hairline's height (T) at the azimuths of `_DEGREES`
    thickness: float
    ragged: float  # roughness of the hairline
    edge: float = 0.25  # thickness at the hairline, as a share
    curls: float = 0.0
    hangs: float = 0.0  # how far down it hangs behind the head, in y; 0 = not at all


_EARS_FREE = (0.10, -0.06, -0.08, 0.16, 0.0, -0.5, -0.9)
_BACK = (-0.95, -1, -1, -1)
_STYLES = {
    "receding": _Style((0.78, 0.80, 0.76, 0.6, 0.38, *_EARS_FREE), 0.035, 0.03),
    "short": _Style((0.56, 0.56, 0.54, 0.47, 0.32, *_EARS_FREE), 0.07, 0.05),
    "side": _Style((0.53, 0.53, 0.52, 0.46, 0.30, *_EARS_FREE), 0.12, 0.05, 0.5),
    "curls": _Style((0.53, 0.52, 0.50, 0.42, 0.28, 0.12, 0.06, 0.08, 0.2, 0.1, -0.2, -0.4), 0.22, 0.09, 0.3, 1.0),
    "fringe": _Style((0.27, 0.28, 0.29, 0.30, 0.22, *_EARS_FREE), 0.10, 0.07, 0.6),
    "bob": _Style((0.5, 0.49, 0.46, 0.36, 0.1, -0.35, -0.7, -0.7, -0.74, -0.8, -0.8, -1), 0.11, 0.04, 0.5, 0, -0.85),
    "long": _Style((0.56, 0.53, 0.48, 0.36, 0.10, -0.4, -0.85, -0.93, *_BACK), 0.10, 0.04, 0.5, 0, -1.75),
    "long_fringe": _Style((0.27, 0.28, 0.29, 0.27, 0.1, -0.4, -0.85, -0.93, *_BACK), 0.10, 0.05, 0.6, 0, -1.6),
    "bun": _Style((0.57, 0.56, 0.53, 0.45, 0.32, 0.16, 0.02, -0.02, 0.12, 0.0, -0.5, -0.9), 0.045, 0.02),
    "beanie": _Style((0.40, 0.40, 0.40, 0.39, 0.38, 0.36, 0.33, 0.30, 0.25, 0.2, 0.15, 0.1), 0.10, 0.0, 0.9),
}  # fmt: skip


@dataclass(frozen=True)
class HairShell:
    """The hair on the head."""

    thickness: Grid  # R x C, its distance from the head
    texture: np.ndarray  # RGBA (straight, not premultiplied), `fine` texels per cell of the grid
    quads: np.ndarray  # (R - 1) x (C - 1), where there is any hair
    over_ears: bool  # whether it covers the ears

    def row_count(self) -> int:
        """Return how many of the grid's rows, from the crown, the shell needs: an odd number."""
        needed = int(np.flatnonzero(self.quads.any(1))[-1]) + 2
        return min(needed | 1, ROWS - 1 + ROWS % 2)


def _height_above_hairline(appearance: Appearance, style: _Style, azimuth: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return how far above the hairline a place is, in T."""
    degrees = np.degrees(azimuth)
    line = np.interp(np.abs(degrees), _DEGREES, style.line)
    if appearance.style in ("side", "long", "bob"):
        # The parting raises the hairline on one side and lowers it on the other.
        aside = degrees / 35 - 0.8 * appearance.parting
        line = line + (0.10 if appearance.style == "side" else 0.14) * np.exp(-((aside / 0.45) ** 2))
        if appearance.style == "side":
            line = line - 0.12 * np.exp(-(((degrees / 35 + 0.6 * np.sign(appearance.parting)) / 0.7) ** 2))
    return t - line


def build_hair_shell(appearance: Appearance, fine: int) -> HairShell | None:
    """Return the hair (or the hat) on a person's head; None for a bald one."""
    if appearance.style == "bald":
        return None
    style, seed, beanie = _STYLES[appearance.style], appearance.seed, appearance.style == "beanie"
    height = _height_above_hairline(appearance, style, AZIMUTH, T)
    profile = style.edge + (1 - style.edge) * smoothstep(height, 0.0, 0.3)
    s, t = S.astype(np.float32), T.astype(np.float32)
    lumps = style.curls * 0.16 * value_noise(seed + 6, s * 7 + 20, t * 7 + 20)
    thickness = style.thickness * (1.0 if beanie else appearance.volume) * profile * (1 + lumps)
    hair = TextureMap(fine)
    above = _height_above_hairline(appearance, style, hair.azimuth, hair.t)
    tufts = value_noise(seed + 7, hair.s * 24 + 20, hair.t * 2 + 20, 2)
    alpha = smoothstep(above + style.ragged * 0.6 * tufts, -0.012, 0.018)
    if beanie:
        knit = 0.5 + 0.5 * np.sin(hair.azimuth * 55)
        hair.colour[:] = np.array(appearance.hat, np.float32) * (0.86 + 0.2 * knit)[..., None]
        hair.darken(0.3 * np.exp(-(((above - 0.14) / 0.012) ** 2)))
    else:
        across, along = (17, 17) if appearance.style == "curls" else (42, 4)
        strands = value_noise(seed + 5, hair.s * across + 20, hair.t * along + 20, 2)
        gleam = np.exp(-(((hair.t - 0.78) / 0.08) ** 2)) * np.exp(-((hair.s / 0.7) ** 4))
        light = 1 + 0.24 * strands + 0.16 * gleam - 0.16 * smoothstep(above, 0.12, 0.0)
        hair.colour[:] = np.array(appearance.hair, np.float32) * light[..., None] + 0.035 * gleam[..., None]
    if appearance.style == "receding":
        alpha = alpha * 0.85
    texture = np.dstack([np.clip(hair.colour, 0, 1), alpha]).astype(np.float32)
    # A quad is drawn if any of its texels shows hair.
    rows, columns = (np.arange(0, count - 1, fine) for count in alpha.shape)
    texels = np.add.reduceat(np.add.reduceat(alpha[:-1, :-1] > 0, rows, 0), columns, 1)
    return HairShell(thickness, texture, texels > 0, style.line[9] < -0.15 or beanie)


def paint_back_hair(appearance: Appearance, scale: float) -> Sprite | None:
    """Paint the hair behind head and neck (long hair, a bun); (0, 0) is the model's origin, y down.

    Scale is pixels per unit of the model.
    """
    style = _STYLES.get(appearance.style)
    if style is None or (style.hangs == 0 and appearance.style != "bun"):
        return None
    canvas = Canvas((-1.2, -1.5, 1.2, 2.0), scale)
    light = 1 + 0.3 * value_noise(appearance.seed + 8, canvas.x * 22 + 20, canvas.y * 2 + 20, 2)
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    if appearance.style == "bun":
        radii = 0.3 * np.cos(angle) * appearance.volume, 0.26 * np.sin(angle) * appearance.volume
        outline = np.stack([radii[0], -1.12 + radii[1]], -1)
    else:
        end, full = -style.hangs, 0.70 + 0.09 * appearance.volume
        top = np.stack([full * np.cos(angle[30:]), -0.35 + 0.6 * np.sin(angle[30:])], -1)
        y = np.array([0.0, 0.5 * end, 0.85 * end, end])
        right = np.stack([full * np.array([1.0, 1.04, 1.02, 0.85]), y], -1)
        outline = np.concatenate([top, right, right[::-1] * np.array([-1, 1])])
    canvas.fill(outline, 0.72 * np.array(appearance.hair, np.float32) * light[..., None])
    canvas.shade(np.clip(1.1 - 0.5 * np.abs(canvas.x) ** 3, 0.6, 1.1).astype(np.float32))
    return canvas.sprite()
