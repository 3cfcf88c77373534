"""Painting of one person: what is painted once per clip, and how a frame uses it."""

from __future__ import annotations

import cv2
import numpy as np

from stillmotion.worlds.faces.body import paint_body
from stillmotion.worlds.faces.hair import Shell, covered_rows, grow_hair, hang_hair
from stillmotion.worlds.faces.looks import Looks
from stillmotion.worlds.faces.mesh import EYE_END, EYE_ROW, EYE_X, MOUTH_END, MOUTH_ROW, S, T
from stillmotion.worlds.faces.model import normals, project
from stillmotion.worlds.faces.raster import Hits
from stillmotion.worlds.faces.scene import Scene
from stillmotion.worlds.faces.skin import look_up, paint_skin
from stillmotion.worlds.sprites import Sprite

_IRIS, _PUPIL = 0.088, 0.042  # radii, in the model's units


class Painter:
    """What is painted once per clip, and how a frame uses it."""

    def __init__(
        self, looks: Looks, scene: Scene, neutral: np.ndarray, place: tuple[float, float, float], side: int
    ) -> None:
        """Paint textures, hair and body.

        Args:
            looks: the person.
            scene: the light.
            neutral: R x C x 3, the person's head without expression and ears.
            place: x, y and scale of the head at rest, in picture heights.
            side: height and width of the canvas, in samples.
        """
        x, y, scale = place
        self.looks, self.scene, self.side, self.scale = looks, scene, side, scale
        self.fine = 2 if side <= 144 else 4 if side <= 288 else 8
        self.skin = paint_skin(looks, self.fine)
        self.hanging = hang_hair(looks, scale * side)
        jaw = float(np.interp(-0.72, T[::-1, 0], neutral[::-1, :, 0].max(1)))
        neck = float(np.clip(0.70 * jaw, 0.28, 0.42))
        self.body = np.zeros((side, side, 4), np.float32)
        body = paint_body(looks, neck, 1.5 * scene.light[0], scale * side)
        _draw(self.body, body, (x * side - 0.5, y * side - 0.5), 0.0, 1.0)
        self.eyes = _eye_centres(neutral)
        self.mouth = float(neutral[MOUTH_ROW, neutral.shape[1] // 2, 1])
        self.hair: Shell | None = grow_hair(looks, self.fine)
        if self.hair is not None:
            # Hair is smooth enough for every second row and column.
            rows = covered_rows(self.hair)
            thickness = self.hair.thickness[:rows, :, None].astype(np.float32)
            vertices = neutral[:rows] + thickness * normals(neutral)[:rows]
            self.hair_vertices, self.hair_normals = vertices[::2, ::2], normals(vertices)[::2, ::2].copy()
            quads = self.hair.quads[: rows - 1]
            self.hair_quads = quads[::2, ::2] | quads[1::2, ::2] | quads[::2, 1::2] | quads[1::2, 1::2]

    def behind(self, pose: np.ndarray) -> np.ndarray:
        """Return a canvas (premultiplied RGBA) with hair that hangs behind, neck and shirt."""
        if self.hanging is None:
            return self.body.copy()
        canvas = np.zeros_like(self.body)
        # The hair's middle lies behind the pivot: turning the head moves it the other way.
        centre = project(np.array([[[0.0, 0.0, -0.35]]]), pose[None], self.side)[0, 0]
        _draw(canvas, self.hanging, (float(centre[0]), float(centre[1])), float(pose[2]), float(pose[5]) / self.scale)
        canvas *= 1 - self.body[..., 3:]
        canvas += self.body
        return canvas

    def _light(self, normal: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return diffuse light and highlight at unit normals (N x 3, the model's axes)."""
        light = np.array(self.scene.light, np.float32)
        half = light + np.array([0, 0, 1], np.float32)
        half /= np.linalg.norm(half)
        toward, gleam = (dot(normal, (turn * way[:, None]).sum(0)) for way in (light, half))
        diffuse = np.clip((toward + np.float32(0.25)) / np.float32(1.25), 0, 1)
        power = np.clip(gleam, 0, 1) ** 2
        power = power * power
        power = power * power  # to the 8th
        return self.scene.ambient + (1.08 - self.scene.ambient) * diffuse, power * power * power

    def face(self, hits: Hits, vertices: np.ndarray, normal: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """Return the colours (N x 3) of the head's pixels; vertices and unit normals in the model's axes."""
        texel = look_up(self.skin, hits.column * self.fine, hits.row * self.fine)
        colour, gloss = texel, np.full(len(texel), self.scene.gloss, np.float32)
        eye = np.flatnonzero((hits.row > EYE_ROW) & (hits.row < EYE_END))
        mouth = np.flatnonzero((hits.row > MOUTH_ROW) & (hits.row < MOUTH_END))
        place = look_up(vertices, hits.column[eye], hits.row[eye])
        colour[eye] = self._eyeball(place, turn)
        place = look_up(vertices, hits.column[mouth], hits.row[mouth])
        colour[mouth] = self._inside_mouth(place)
        gloss[mouth] = 0
        diffuse, gleam = self._light(normal, turn)
        diffuse[eye] = 0.6 * diffuse[eye] + 0.4
        diffuse[mouth] = np.clip(diffuse[mouth], 0.8, 1)
        return colour * diffuse[:, None] + (gloss * gleam)[:, None]

    def _eyeball(self, place: np.ndarray, turn: np.ndarray) -> np.ndarray:
        looks, left = self.looks, place[:, :1] < 0
        centre = np.where(left, self.eyes[0], self.eyes[1])
        # The eyes look at the viewer: they turn against the head.
        gaze = np.clip(turn.T[:2, 2] * 0.12, -0.05, 0.05)
        off = place[:, :2] - centre - gaze
        distance = np.hypot(off[:, 0], off[:, 1])
        white = (
            np.array([0.95, 0.94, 0.92], np.float32)
            * np.clip(1 - 0.25 * np.clip(off[:, 1] / 0.1, 0, 1), 0, 1)[:, None]
        )
        iris = np.array(looks.iris, np.float32) * (0.75 + 0.6 * np.clip(-off[:, 1] / _IRIS, -0.5, 1))[:, None]
        iris = iris * np.where(distance > 0.82 * _IRIS, 0.55, 1)[:, None]
        colour = np.where((distance < _IRIS)[:, None], iris, white)
        colour = np.where((distance < _PUPIL)[:, None], np.float32(0.04), colour)
        spark = np.hypot(off[:, 0] + 0.03, off[:, 1] - 0.032) < 0.02
        return np.where(spark[:, None], np.float32(1.0), colour)

    def _inside_mouth(self, place: np.ndarray) -> np.ndarray:
        """Teeth hang from the skull: a jaw that drops uncovers what is behind them."""
        below = self.mouth - place[:, 1]
        teeth = (below < 0.062) & (np.abs(place[:, 0]) < 0.21)
        gaps = 1 - 0.12 * (np.abs(np.mod(place[:, 0] / 0.062, 1) - 0.5) > 0.42)
        ivory = np.array([0.93, 0.91, 0.86], np.float32) * (gaps * (1 - 1.6 * np.abs(place[:, 0]) ** 1.5))[:, None]
        tongue = np.clip((below - 0.16) / 0.08, 0, 1)[:, None]
        dark = (1 - tongue) * np.array([0.17, 0.04, 0.05], np.float32) + tongue * np.array(
            [0.55, 0.22, 0.22], np.float32
        )
        return np.where(teeth[:, None], ivory, dark)

    def cover(self, flat: np.ndarray, depth: np.ndarray, hits: Hits, turn: np.ndarray) -> None:
        """Draw the hair over the head where it lies in front, and note its depth."""
        front = hits.depth > depth[hits.pixels]
        pixels, row, column = hits.pixels[front], hits.row[front], hits.column[front]
        assert self.hair is not None
        texel = look_up(self.hair.texture, 2 * column * self.fine, 2 * row * self.fine)
        normal = look_up(self.hair_normals, column, row)
        diffuse, gleam = self._light(normal, turn)
        alpha = texel[:, 3:]
        lit = texel[:, :3] * diffuse[:, None] + (0.3 * self.scene.gloss * gleam)[:, None]
        behind = flat.take(pixels, axis=0)
        behind *= 1 - alpha
        behind[:, :3] += alpha * lit
        behind[:, 3:] += alpha
        flat[pixels] = behind
        thick = texel[:, 3] > 0.5
        depth[pixels[thick]] = hits.depth[front][thick]


def dot(vectors: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Return the scalar products of vectors (N x 3) with a direction (3, or 3 x N); NumPy's own are slow here."""
    return vectors[:, 0] * way[0] + vectors[:, 1] * way[1] + vectors[:, 2] * way[2]


def _eye_centres(neutral: np.ndarray) -> np.ndarray:
    """Return the middles of the left and the right eye, 2 x 2, in the model's axes."""
    columns = [int(np.abs(S[0] - side * EYE_X).argmin()) for side in (-1, 1)]
    return np.array(
        [0.5 * (neutral[EYE_ROW, column, :2] + neutral[EYE_END, column, :2]) for column in columns], np.float32
    )


def _draw(canvas: np.ndarray, sprite: Sprite, place: tuple[float, float], roll: float, gain: float) -> None:
    """Draw a sprite over a canvas: its origin at `place` (pixels), turned clockwise by `roll` about the neck."""
    cos, sin = gain * np.cos(roll), gain * np.sin(roll)
    linear = np.array([[cos, -sin], [sin, cos]])
    moved = np.array(place) - linear @ np.array(sprite.origin)
    over = cv2.warpAffine(
        sprite.image, np.concatenate([linear, moved[:, None]], 1), canvas.shape[1::-1], flags=cv2.INTER_LINEAR
    )
    canvas *= cv2.merge([1 - over[..., 3]] * canvas.shape[2])
    canvas += over
