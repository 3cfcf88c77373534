"""The face's texture map, painted once per person."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.easing import smoothstep
from stillmotion.worlds.faces.appearance import Appearance
from stillmotion.worlds.faces.grid import EYE_HALF, EYE_X, EYES, MOUTH, MOUTH_HALF, MOUTH_T, S, T, lens
from stillmotion.worlds.faces.texture_map import TextureMap
from stillmotion.worlds.textures import value_noise

# The vertices of the normal map: below most hairlines, in front of the ears, above the chin's underside.
FACE_VERTICES = ((np.abs(S) < 0.935) & (T < 0.56 - 0.1 * (S / 0.9) ** 2) & (T > -0.985)).astype(np.float32)


def paint_skin(appearance: Appearance, fine: int) -> np.ndarray:
    """Return the texture map, RGB in [0, 1], `fine` texels per cell of the grid in each direction."""
    skin = TextureMap(fine)
    skin.colour[:] = appearance.skin
    skin.colour *= 1 + 0.025 * value_noise(appearance.seed, skin.s * 9 + 20, skin.t * 9 + 20, 3)[..., None]
    for paint in (_paint_flush, _paint_shadows, _paint_beard, _paint_lips, _paint_eyes, _paint_brows):
        paint(skin, appearance)
    return np.clip(skin.colour, 0, 1)


def _paint_flush(skin: TextureMap, appearance: Appearance) -> None:
    red = np.array(appearance.skin) * np.array([1.0, 0.66, 0.62]) + np.array([0.05, 0.0, 0.0])
    flush = skin.mirrored_gaussian(0.42, -0.26, 0.17, 0.13) + 0.5 * skin.mirrored_gaussian(0, -0.36, 0.12, 0.08)
    flush = flush + 0.5 * skin.mirrored_gaussian(1.13, -0.12, 0.1, 0.2)
    skin.mix_in(red, 0.55 * appearance.blush * flush)
    if appearance.freckles > 0:
        spots = value_noise(appearance.seed + 1, skin.s * 75 + 20, skin.t * 75 + 20)
        area = skin.mirrored_gaussian(0.27, -0.22, 0.3, 0.14)
        density = 0.75 * appearance.freckles * area * smoothstep(spots, 0.35, 0.6)
        skin.mix_in(np.array(appearance.skin) * [0.68, 0.52, 0.45], density)


def _paint_shadows(skin: TextureMap, appearance: Appearance) -> None:
    """Darken the hollows of the face (ambient occlusion)."""
    s, t, spot = skin.s, skin.t, skin.mirrored_gaussian
    skin.darken(0.16 * spot(0.2, 0.03, 0.09, 0.1) + 0.10 * spot(EYE_X, 0.09, 0.16, 0.045))
    skin.darken(0.07 * spot(EYE_X, -0.11, 0.13, 0.03))
    skin.darken(0.75 * smoothstep(spot(0.062, -0.432, 0.038, 0.022), 0.3, 0.7))  # nostrils
    skin.darken(0.20 * spot(0.155, -0.39, 0.022, 0.055))  # beside the wings
    skin.darken(0.14 * spot(0, -0.462, 0.14, 0.02))
    fold = np.abs(np.abs(s) - (0.17 + 0.10 * smoothstep(t, -0.42, -0.6)))
    skin.darken(0.11 * np.exp(-((fold / 0.025) ** 2)) * smoothstep(t, -0.62, -0.5) * smoothstep(t, -0.38, -0.45))
    skin.darken(0.13 * np.exp(-((s / 0.13) ** 2) - ((t - MOUTH_T + 0.125) / 0.03) ** 2))
    skin.darken(
        0.16 * smoothstep(np.abs(s), 0.96, 1.06) * smoothstep(t, 0.2, 0.0) * smoothstep(np.abs(s), 1.12, 1.06)
    )


def _paint_lips(skin: TextureMap, appearance: Appearance) -> None:
    s, t, upper = skin.s, skin.t, skin.row <= MOUTH.first
    across = lens(s / (MOUTH_HALF + 0.012), 0.75)
    bow = 1 - 0.22 * np.exp(-((s / 0.045) ** 2))
    above = (t - MOUTH_T) / np.maximum(0.078 * across * bow, 1e-3)
    below = (MOUTH_T - t) / np.maximum(0.092 * across, 1e-3)
    inside = np.where(upper, smoothstep(above, 1.12, 0.88), smoothstep(below, 1.12, 0.88))
    inside = inside * (across > 0.02)
    skin.mix_in(appearance.lips, 0.85 * inside)
    skin.darken(0.12 * inside * upper)
    # The line between the lips makes the mouth visible in a small picture.
    edge = np.where(upper, t - MOUTH_T, MOUTH_T - t)
    line = np.exp(-((edge / 0.016) ** 2)) * smoothstep(np.abs(s), MOUTH_HALF + 0.03, MOUTH_HALF - 0.02)
    skin.darken(0.62 * line)
    skin.mix_in((0.16, 0.04, 0.04), MOUTH.between(skin.row).astype(np.float32))


def _paint_eyes(skin: TextureMap, appearance: Appearance) -> None:
    t, upper = skin.t, skin.row <= EYES.first
    off = (np.abs(skin.s) - EYE_X) / EYE_HALF
    near = smoothstep(np.abs(off), 1.16, 0.98)
    upper_lashes = np.where(upper, np.exp(-((t / 0.017) ** 2)), 0)
    lower_lashes = np.where(skin.row >= EYES.last, np.exp(-((t / 0.010) ** 2)), 0)
    crease = np.exp(-(((t - 0.052 * (1 - 0.5 * off**2)) / 0.009) ** 2)) * upper
    lashes = near * (1.0 * appearance.lashes * upper_lashes + 0.35 * appearance.lashes * lower_lashes)
    skin.mix_in(np.array([0.10, 0.07, 0.06]), lashes)
    skin.darken(0.3 * crease * smoothstep(np.abs(off), 1.0, 0.7))
    skin.mix_in((0.93, 0.92, 0.90), EYES.between(skin.row).astype(np.float32))


def _paint_brows(skin: TextureMap, appearance: Appearance) -> None:
    along = (np.abs(skin.s) - 0.13) / 0.37  # 0 at the inner end, 1 at the outer one
    middle = 0.185 + appearance.brow_arch * (1 - ((along - 0.6) / 0.6) ** 2) - 0.01 * along
    half = appearance.brow_width * (1.05 - 0.6 * np.clip(along, 0, 1) ** 2)
    strands = 1 + 0.22 * value_noise(appearance.seed + 2, skin.s * 55 + 20, skin.t * 22 + 20)
    shape = smoothstep(np.abs(skin.t - middle) / half, 1.25, 0.6)
    shape = shape * smoothstep(along, -0.06, 0.06) * smoothstep(along, 1.05, 0.9)
    skin.mix_in(appearance.brows, 0.9 * shape * strands)


def _paint_beard(skin: TextureMap, appearance: Appearance) -> None:
    if appearance.beard <= 0:
        return
    s, t = np.abs(skin.s), skin.t
    line = np.interp(s, [0, 0.2, 0.3, 0.45, 0.7, 0.9, 1.02], [-0.66, -0.64, -0.56, -0.55, -0.38, -0.1, 0.1])
    area = smoothstep(t, line + 0.03, line - 0.04) * smoothstep(s, 1.1, 1.0)
    if appearance.moustache:
        over = smoothstep(t, -0.475, -0.50) * smoothstep(s, 0.3, 0.24) * smoothstep(t, -0.68, -0.6)
        area = np.maximum(area, over)
    strands = 0.85 + 0.3 * value_noise(appearance.seed + 3, skin.s * 60 + 20, skin.t * 30 + 20)
    colour = 0.8 * np.array(appearance.hair) + 0.2 * np.array(appearance.skin) * 0.5
    skin.mix_in(colour, area * strands * (0.25 + 0.65 * appearance.beard))
