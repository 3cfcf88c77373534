"""Hair: a shell over the head's mesh, and what hangs behind the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.worlds.faces.looks import Looks
from stillmotion.worlds.faces.mesh import AZIMUTH, ROWS, Grid, S, T, step
from stillmotion.worlds.faces.skin import Sheet
from stillmotion.worlds.sprites import Canvas, Sprite
from stillmotion.worlds.textures import value_noise

_DEGREES = (0, 15, 30, 45, 55, 65, 75, 82, 92, 105, 118, 131)


@dataclass(frozen=True)
class _Style:
    """A cut: the hairline's height (T) over the azimuth's size (`_DEGREES`), thickness, raggedness of its edge."""

    line: tuple[float, ...]
    thickness: float
    ragged: float
    edge: float = 0.25  # thickness at the hairline, as a share
    curls: float = 0.0
    hangs: float = 0.0  # how far down it hangs behind the head, in y; 0 = does not


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
class Shell:
    """The hair on the head.

    Attributes:
        thickness: R x C, how far it stands off the head.
        texture: RGBA (straight, not multiplied), `fine` texels per cell of the grid.
        quads: (R - 1) x (C - 1), where there is any hair.
        over_ears: whether it lies over the ears.
    """

    thickness: Grid
    texture: np.ndarray
    quads: np.ndarray
    over_ears: bool


def _above_line(looks: Looks, style: _Style, s: np.ndarray, azimuth: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return how far above the hairline a place lies, in T."""
    degrees = np.degrees(azimuth)
    line = np.interp(np.abs(degrees), _DEGREES, style.line)
    if looks.style in ("side", "long", "bob"):
        # The parting opens the hairline on one side and sweeps it down on the other.
        aside = degrees / 35 - 0.8 * looks.parting
        line = line + (0.10 if looks.style == "side" else 0.14) * np.exp(-((aside / 0.45) ** 2))
        if looks.style == "side":
            line = line - 0.12 * np.exp(-(((degrees / 35 + 0.6 * np.sign(looks.parting)) / 0.7) ** 2))
    return t - line


def _strands(looks: Looks, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    if looks.style == "curls":
        return value_noise(looks.seed + 5, s * 17 + 20, t * 17 + 20, 2)
    return value_noise(looks.seed + 5, s * 42 + 20, t * 4 + 20, 2)


def grow_hair(looks: Looks, fine: int) -> Shell | None:
    """Return the hair (or the hat) on a person's head; None for a bald one."""
    if looks.style == "bald":
        return None
    style = _STYLES[looks.style]
    thickness = style.thickness * (looks.volume if looks.style != "beanie" else 1.0)
    rise = _above_line(looks, style, S, AZIMUTH, T)
    body = style.edge + (1 - style.edge) * step(rise, 0.0, 0.3)
    lumps = (
        style.curls * 0.16 * value_noise(looks.seed + 6, S.astype(np.float32) * 7 + 20, T.astype(np.float32) * 7 + 20)
    )
    sheet = Sheet(fine)
    strands = _strands(looks, sheet.s, sheet.t)
    above = _above_line(looks, style, sheet.s, sheet.azimuth, sheet.t)
    tufts = value_noise(looks.seed + 7, sheet.s * 24 + 20, sheet.t * 2 + 20, 2)
    alpha = step(above + style.ragged * 0.6 * tufts, -0.012, 0.018)
    if looks.style == "beanie":
        knit = 0.5 + 0.5 * np.sin(sheet.azimuth * 55)
        sheet.colour[:] = np.array(looks.hat, np.float32) * (0.86 + 0.2 * knit)[..., None]
        sheet.darken(0.3 * np.exp(-(((above - 0.14) / 0.012) ** 2)))
    else:
        gleam = np.exp(-(((sheet.t - 0.78) / 0.08) ** 2)) * np.exp(-((sheet.s / 0.7) ** 4))
        light = 1 + 0.24 * strands + 0.16 * gleam - 0.16 * step(above, 0.12, 0.0)
        sheet.colour[:] = np.array(looks.hair, np.float32) * light[..., None] + 0.035 * gleam[..., None]
    if looks.style == "receding":
        alpha = alpha * 0.85
    texture = np.dstack([np.clip(sheet.colour, 0, 1), alpha]).astype(np.float32)
    # A quad is drawn if any of its texels shows hair.
    dense = np.add.reduceat(
        np.add.reduceat(alpha[:-1, :-1] > 0, np.arange(0, len(alpha) - 1, fine), 0),
        np.arange(0, alpha.shape[1] - 1, fine),
        1,
    )
    return Shell(thickness * body * (1 + lumps), texture, dense > 0, style.line[9] < -0.15 or looks.style == "beanie")


def hang_hair(looks: Looks, scale: float) -> Sprite | None:
    """Paint what is seen behind head and neck: long hair, a bun; (0, 0) is the model's origin, y down.

    Args:
        looks: the person.
        scale: pixels per unit of the model.
    """
    style = _STYLES.get(looks.style)
    if style is None or (style.hangs == 0 and looks.style != "bun"):
        return None
    dark = 0.72 * np.array(looks.hair, np.float32)
    canvas = Canvas((-1.2, -1.5, 1.2, 2.0), scale)
    light = 1 + 0.3 * value_noise(looks.seed + 8, canvas.x * 22 + 20, canvas.y * 2 + 20, 2)
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    if looks.style == "bun":
        outline = np.stack([0.3 * np.cos(turn) * looks.volume, -1.12 + 0.26 * np.sin(turn) * looks.volume], -1)
    else:
        end, full = -style.hangs, 0.70 + 0.09 * looks.volume
        top = np.stack([full * np.cos(turn[30:]), -0.35 + 0.6 * np.sin(turn[30:])], -1)
        y = np.array([0.0, 0.5 * end, 0.85 * end, end])
        right = np.stack([full * np.array([1.0, 1.04, 1.02, 0.85]), y], -1)
        outline = np.concatenate([top, right, right[::-1] * np.array([-1, 1])])
    canvas.fill(outline, dark * light[..., None])
    shade = np.clip(1.1 - 0.5 * np.abs(canvas.x) ** 3, 0.6, 1.1)
    canvas.shade(shade.astype(np.float32))
    return canvas.sprite()


def covered_rows(shell: Shell) -> int:
    """Return how many of the grid's rows, from the crown, the shell needs: an odd number."""
    needed = int(np.flatnonzero(shell.quads.any(1))[-1]) + 2
    return min(needed | 1, ROWS - 1 + ROWS % 2)
