"""Shading of one person: textures painted once per clip, and the colours of a frame's fragments."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.affine import affine
from stillmotion.worlds.colours import blend
from stillmotion.worlds.compositing import draw_over
from stillmotion.worlds.faces.appearance import Appearance, Scene
from stillmotion.worlds.faces.grid import EYE_X, EYES, MOUTH, S, T
from stillmotion.worlds.faces.hair import HairShell, build_hair_shell, paint_back_hair
from stillmotion.worlds.faces.model import normals, project
from stillmotion.worlds.faces.raster import Fragments
from stillmotion.worlds.faces.skin import paint_skin
from stillmotion.worlds.faces.texture_map import interpolate
from stillmotion.worlds.sprites import Canvas, Sprite, ellipse
from stillmotion.worlds.textures import paint_fabric

_IRIS, _PUPIL = 0.088, 0.042  # radii, in the model's units


class Shader:
    """The textures of one person, and how a frame uses them."""

    def __init__(
        self, appearance: Appearance, scene: Scene, neutral: np.ndarray, place: tuple[float, float, float], side: int
    ) -> None:
        """Paint textures, hair and upper body.

        `neutral` (R x C x 3) is the person's head without expression and ears, `place` x, y and scale of the head at
        rest, in picture heights, and `side` that of the canvas, in samples.
        """
        x, y, scale = place
        self.appearance, self.scene, self.side, self.scale = appearance, scene, side, scale
        self.fine = 2 if side <= 144 else 4 if side <= 288 else 8
        self.skin = paint_skin(appearance, self.fine)
        self.back_hair = paint_back_hair(appearance, scale * side)
        jaw = float(np.interp(-0.72, T[::-1, 0], neutral[::-1, :, 0].max(1)))
        neck = float(np.clip(0.70 * jaw, 0.28, 0.42))
        self.body = np.zeros((side, side, 4), np.float32)
        body = paint_upper_body(appearance, neck, 1.5 * scene.light[0], scale * side)
        _draw(self.body, body, (x * side - 0.5, y * side - 0.5), 0.0, 1.0)
        self.eyes = _eye_centres(neutral)
        self.mouth = float(neutral[MOUTH.first, neutral.shape[1] // 2, 1])
        self.hair: HairShell | None = build_hair_shell(appearance, self.fine)
        if self.hair is not None:
            # Hair is smooth enough for every second row and column.
            rows = self.hair.row_count()
            thickness = self.hair.thickness[:rows, :, None].astype(np.float32)
            vertices = neutral[:rows] + thickness * normals(neutral)[:rows]
            self.hair_vertices, self.hair_normals = vertices[::2, ::2], normals(vertices)[::2, ::2].copy()
            quads = self.hair.quads[: rows - 1]
            self.hair_quads = quads[::2, ::2] | quads[1::2, ::2] | quads[::2, 1::2] | quads[1::2, 1::2]

    def layer_behind(self, pose: np.ndarray) -> np.ndarray:
        """Return a canvas (premultiplied RGBA) with hair that hangs behind, neck and shirt."""
        if self.back_hair is None:
            return self.body.copy()
        canvas = np.zeros_like(self.body)
        # The hair's middle is behind the pivot: rotating the head moves it the other way.
        x, y, _ = project(np.array([[[0.0, 0.0, -0.35]]]), pose[None], self.side)[0, 0].tolist()
        _draw(canvas, self.back_hair, (x, y), float(pose[2]), float(pose[5]) / self.scale)
        canvas *= 1 - self.body[..., 3:]
        canvas += self.body
        return canvas

    def _light(self, normal: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return diffuse light and Blinn-Phong highlight at unit normals (N x 3, the model's axes)."""
        light = np.array(self.scene.light, np.float32)
        half = light + np.array([0, 0, 1], np.float32)
        half /= np.linalg.norm(half)
        cosine, highlight = (dot(normal, (turn * vector[:, None]).sum(0)) for vector in (light, half))
        diffuse = np.clip((cosine + np.float32(0.25)) / np.float32(1.25), 0, 1)
        power = np.clip(highlight, 0, 1) ** 2
        power = power * power
        power = power * power  # to the 8th
        return self.scene.ambient + (1.08 - self.scene.ambient) * diffuse, power * power * power

    def face(self, head: Fragments, vertices: np.ndarray, normal: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """Return the colours (N x 3) of the head's pixels; vertices and unit normals in the model's axes."""
        colour = interpolate(self.skin, head.column * self.fine, head.row * self.fine)
        gloss = np.full(len(colour), self.scene.gloss, np.float32)
        eye, mouth = (np.flatnonzero(slit.between(head.row)) for slit in (EYES, MOUTH))
        colour[eye] = self._eyeball(interpolate(vertices, head.column[eye], head.row[eye]), turn)
        colour[mouth] = self._inside_mouth(interpolate(vertices, head.column[mouth], head.row[mouth]))
        gloss[mouth] = 0
        diffuse, highlight = self._light(normal, turn)
        diffuse[eye] = 0.6 * diffuse[eye] + 0.4
        diffuse[mouth] = np.clip(diffuse[mouth], 0.8, 1)
        return colour * diffuse[:, None] + (gloss * highlight)[:, None]

    def _eyeball(self, place: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """Return the colours of places (N x 3) on the eyes; the gaze stays on the viewer as the head rotates."""
        centre = np.where(place[:, :1] < 0, self.eyes[0], self.eyes[1])
        gaze = np.clip(turn.T[:2, 2] * 0.12, -0.05, 0.05)
        off = place[:, :2] - centre - gaze
        distance = np.hypot(off[:, 0], off[:, 1])
        shadow = np.clip(1 - 0.25 * np.clip(off[:, 1] / 0.1, 0, 1), 0, 1)[:, None]
        iris = np.array(self.appearance.iris, np.float32)
        iris = iris * (0.75 + 0.6 * np.clip(-off[:, 1] / _IRIS, -0.5, 1))[:, None]
        iris = iris * np.where(distance > 0.82 * _IRIS, 0.55, 1)[:, None]
        colour = np.where((distance < _IRIS)[:, None], iris, np.array([0.95, 0.94, 0.92], np.float32) * shadow)
        colour = np.where((distance < _PUPIL)[:, None], np.float32(0.04), colour)
        glint = np.hypot(off[:, 0] + 0.03, off[:, 1] - 0.032) < 0.02
        return np.where(glint[:, None], np.float32(1.0), colour)

    def _inside_mouth(self, place: np.ndarray) -> np.ndarray:
        """Return the colours of places (N x 3) in the mouth; the upper teeth are fixed on the skull."""
        below = self.mouth - place[:, 1]
        teeth = (below < 0.062) & (np.abs(place[:, 0]) < 0.21)
        gaps = 1 - 0.12 * (np.abs(np.mod(place[:, 0] / 0.062, 1) - 0.5) > 0.42)
        ivory = np.array([0.93, 0.91, 0.86], np.float32) * (gaps * (1 - 1.6 * np.abs(place[:, 0]) ** 1.5))[:, None]
        tongue = np.clip((below - 0.16) / 0.08, 0, 1)
        return np.where(teeth[:, None], ivory, blend((0.17, 0.04, 0.05), (0.55, 0.22, 0.22), tongue))

    def draw_hair(self, canvas: np.ndarray, depth: np.ndarray, hair: Fragments, turn: np.ndarray) -> None:
        """Composite the hair over the flattened canvas where it is in front, and update the depth."""
        front = hair.depth > depth[hair.pixels]
        pixels, row, column = hair.pixels[front], hair.row[front], hair.column[front]
        assert self.hair is not None
        texel = interpolate(self.hair.texture, 2 * column * self.fine, 2 * row * self.fine)
        diffuse, highlight = self._light(interpolate(self.hair_normals, column, row), turn)
        alpha = texel[:, 3:]
        lit = texel[:, :3] * diffuse[:, None] + (0.3 * self.scene.gloss * highlight)[:, None]
        behind = canvas.take(pixels, axis=0)
        behind *= 1 - alpha
        behind[:, :3] += alpha * lit
        behind[:, 3:] += alpha
        canvas[pixels] = behind
        opaque = texel[:, 3] > 0.5
        depth[pixels[opaque]] = hair.depth[front][opaque]


def dot(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the scalar products of vectors (N x 3) with a direction (3, or 3 x N); NumPy's own are slow here."""
    return vectors[:, 0] * direction[0] + vectors[:, 1] * direction[1] + vectors[:, 2] * direction[2]


def _eye_centres(neutral: np.ndarray) -> np.ndarray:
    """Return the centres of the left and the right eye, 2 x 2, in the model's axes."""
    columns = [int(np.abs(S[0] - side * EYE_X).argmin()) for side in (-1, 1)]
    return (0.5 * (neutral[EYES.first, columns, :2] + neutral[EYES.last, columns, :2])).astype(np.float32)


def _draw(canvas: np.ndarray, sprite: Sprite, place: tuple[float, float], roll: float, gain: float) -> None:
    """Composite a sprite with its origin at `place` (pixels), rotated clockwise by `roll` and scaled by `gain`."""
    cos, sin = gain * np.cos(roll), gain * np.sin(roll)
    linear = np.array([[cos, -sin], [sin, cos]])
    transform = affine(linear, np.array(place) - linear @ np.array(sprite.origin))
    draw_over(canvas, sprite.image, transform, (0, 0, *canvas.shape[1::-1]))


_STATURES = 0.075  # per unit of the model: the unit of a fabric's period is a stature


def paint_upper_body(appearance: Appearance, neck: float, light_side: float, scale: float) -> Sprite:
    """Paint neck and shirt, static while the head moves; (0, 0) is the model's origin, y down.

    `neck` is half its width in the model's units, `light_side` -1 left to +1 right, `scale` pixels per unit.
    """
    canvas = Canvas((-1.95, 0.25, 1.95, 1.95), scale)  # the largest part that a picture can show
    x, y = canvas.x, canvas.y
    # Neck: narrowest in its middle, widening into the shoulders.
    down = np.linspace(0.3, 1.75, 24)
    half = neck * (1.0 + 0.08 * ((down - 1.0) / 0.4) ** 2)
    outline = np.concatenate([np.stack([half, down], -1), np.stack([-half, down], -1)[::-1]])
    skin = np.array(appearance.skin, np.float32)
    light = 0.92 - 0.42 * np.abs(np.clip(x / neck, -1, 1) - 0.3 * light_side) ** 2.5
    light = light * (0.62 + 0.38 * np.clip((y - 0.95) / 0.45, 0, 1))  # the head's shadow
    canvas.fill(outline, skin * light[..., None])
    side = np.array(
        [[0, 1.22], [neck * 1.02, 1.24], [neck * 1.35, 1.42], [1.0, 1.58], [1.42, 1.72], [1.7, 2.0], [1.85, 2.7]]
    )
    shirt = np.concatenate([side, side[::-1] * np.array([-1, 1])])
    cloth = paint_fabric(appearance.top, x * _STATURES, y * _STATURES)
    folds = 1.0 - 0.18 * np.clip(np.abs(x) - 0.9, 0, 1) + 0.10 * light_side * np.clip(x, -1, 1)
    shirt_light = folds * (0.72 + 0.28 * np.clip((y - 1.2) / 0.4, 0, 1))
    canvas.fill(shirt, cloth * shirt_light[..., None])
    hem = ellipse(0, 1.235, neck * 1.16, 0.165 + 0.3 * appearance.collar)
    canvas.fill(hem, cloth * (0.72 * shirt_light)[..., None], clip=canvas.coverage(shirt))
    canvas.fill(ellipse(0, 1.24, neck * 1.06, 0.13 + 0.3 * appearance.collar), skin * light[..., None])
    return canvas.sprite()
