"""Rendering: from a description to frames and tracks, at any size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.compositing import expose, mask_box, over
from stillmotion.worlds.faces.appearance import Appearance, Scene
from stillmotion.worlds.faces.expression import ACTION_UNITS
from stillmotion.worlds.faces.grid import landmarks
from stillmotion.worlds.faces.identity import EAR_SIZE, EARS, TRAITS
from stillmotion.worlds.faces.model import normals, project, rotation, shape
from stillmotion.worlds.faces.performance import Performance
from stillmotion.worlds.faces.raster import Fragments, rasterise
from stillmotion.worlds.faces.shading import Shader, dot
from stillmotion.worlds.faces.skin import FACE_VERTICES
from stillmotion.worlds.faces.texture_map import interpolate
from stillmotion.worlds.textures import paint_surface

_FACTOR = 2  # samples per pixel and axis
_OCCLUSION = 0.1  # a landmark is hidden by what is this much nearer, in the model's units


@dataclass(frozen=True)
class Person:
    """The identity and appearance of a face."""

    identity: tuple[float, ...]  # one coefficient per name in `TRAITS`
    appearance: Appearance


@dataclass(frozen=True)
class Face:
    """The whole description of a clip, independent of its size and length."""

    person: Person
    performance: Performance  # expression and pose over time
    scene: Scene  # background, light and camera


def render(face: Face, size: int, frames: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Render a description at `size` pixels a side; a longer clip begins as a shorter one.

    Returns:
        Frames (uint8, T x H x W x 3) and tracks: `identity` (float32, T x K, the same in every frame),
        `expression` (float32, T x E), `pose` (float32, T x 6, see `model.project`), `normals` (float16,
        T x H x W x 3, see `normal_maps`), `landmarks` (float32, T x 68 x 3: x, y, visible), `box` (float32, T x 4:
        x0, y0, x1, y1, the outermost pixels' centres of the normal map) and `mask` (uint8, T x H x W, 255 where at
        least half of the pixel is person).
    """
    times = np.arange(float(frames))
    expression, pose = face.performance.expression(times), face.performance.pose(times)
    identity = np.array(face.person.identity)
    vertices = shape(identity, expression)
    ears = (EARS * (1 + EAR_SIZE * identity[TRAITS.index("ears")])).astype(np.float32)
    side = size * _FACTOR
    neutral = shape(identity, np.zeros((1, len(ACTION_UNITS))))[0] - ears
    shader = Shader(face.person.appearance, face.scene, neutral, face.performance.place, side)
    hair = None
    if shader.hair is not None:
        hair = project(np.repeat(shader.hair_vertices[None], frames, 0), pose, side)
        if shader.hair.over_ears:
            vertices = vertices - ears
    placed, turns = project(vertices, pose, side), rotation(pose).astype(np.float32)
    wall, noise = _paint_wall(face.scene, size), np.random.default_rng(face.scene.noise_seed)
    video = np.empty((frames, size, size, 3), np.uint8)
    maps = np.zeros((frames, size, size, 3), np.float16)
    mask = np.empty((frames, size, size), np.uint8)
    marks = landmarks(placed)
    visible = np.empty(marks.shape[:2], bool)
    for t in range(frames):
        canvas = shader.layer_behind(pose[t])
        head = rasterise(placed[t], side)
        normal = _unit_normals(normals(vertices[t]), head)  # frame by frame: all at once leave the cache
        flat, depth = canvas.reshape(-1, 4), np.full(side * side, -np.inf, np.float32)
        flat[head.pixels, :3] = shader.face(head, vertices[t], normal, turns[t])
        flat[head.pixels, 3], depth[head.pixels] = 1, head.depth
        if hair is not None:
            shader.draw_hair(flat, depth, rasterise(hair[t], side, shader.hair_quads), turns[t])
        maps[t] = _average_normals(normal, head, size)
        person = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
        mask[t] = np.where(person[..., 3] >= 0.5, 255, 0)
        tint = np.asarray(face.scene.tint, np.float32)
        video[t] = expose(over(person, wall), face.scene.softness, face.scene.noise, noise, tint)
        visible[t] = _visible(marks[t], depth, side, _OCCLUSION * pose[t, 5] * side)
    places = (marks[..., :2] + 0.5) / _FACTOR - 0.5
    return video, {
        "identity": np.repeat(identity[None], frames, 0).astype(np.float32),
        "expression": expression.astype(np.float32),
        "pose": pose.astype(np.float32),
        "normals": maps,
        "landmarks": np.concatenate([places, visible[..., None]], -1).astype(np.float32),
        "box": np.stack([mask_box((one != 0).any(-1)) for one in maps]),
        "mask": mask,
    }


def normal_maps(identity: np.ndarray, expression: np.ndarray, pose: np.ndarray, size: int) -> np.ndarray:
    """Render the normal maps of any coefficients: those of a track, or one person's with another's expression.

    The vectors are in the model's axes (x to the picture's right, y up, z towards the viewer) before the pose is
    applied: a rotating head moves its map and keeps its vectors (as in the structures paper's code; there they point
    into the head, here out of it). `rotation(pose)` rotates them into the picture's axes.

    For K, T x E and T x 6 coefficients (see `model.project`) and `size` pixels a side it returns float16,
    T x H x W x 3: unit vectors where at least half of a pixel is face, else zero. Hair is left out.
    """
    side = size * _FACTOR
    vertices = shape(np.asarray(identity, float), np.asarray(expression, float))
    heads = [rasterise(one, side) for one in project(vertices, pose, side)]
    maps = [_average_normals(_unit_normals(n, h), h, size) for n, h in zip(normals(vertices), heads, strict=True)]
    return np.stack(maps).astype(np.float16)


def _unit_normals(vertex_normals: np.ndarray, head: Fragments) -> np.ndarray:
    normal = interpolate(vertex_normals, head.column, head.row)
    return normal / np.maximum(np.sqrt(dot(normal, normal.T)), 1e-6)[:, None]


def _average_normals(normal: np.ndarray, head: Fragments, size: int) -> np.ndarray:
    """Return the normal map (H x W x 3): the samples' mean, normalised, where at least half of them show the face."""
    side = size * _FACTOR
    vertex = np.rint(head.row).astype(np.int32) * FACE_VERTICES.shape[1] + np.rint(head.column).astype(np.int32)
    on = np.flatnonzero(np.take(FACE_VERTICES, vertex))
    samples, face = np.zeros((side * side, 4), np.float32), np.ones((len(on), 4), np.float32)
    face[:, :3] = normal.take(on, axis=0)
    samples[head.pixels.take(on)] = face
    mean = cv2.resize(samples.reshape(side, side, 4), (size, size), interpolation=cv2.INTER_AREA).reshape(-1, 4)
    shown = np.flatnonzero(mean[:, 3] >= 0.5)
    found = np.zeros((size * size, 3), np.float32)
    vectors = mean[shown, :3]
    length = np.sqrt(dot(vectors, vectors.T))
    # Opposite normals can cancel out in the mean; such a pixel has no direction.
    found[shown] = np.where((length > 0.1)[:, None], vectors / np.maximum(length, 0.1)[:, None], 0)
    return found.reshape(size, size, 3)


def _paint_wall(scene: Scene, size: int) -> np.ndarray:
    x, y = np.meshgrid(*(2 * [(np.arange(2 * size, dtype=np.float32) * 0.5 + 0.25) / size]))
    return cv2.resize(paint_surface(scene.wall, x, y), (size, size), interpolation=cv2.INTER_AREA)


def _visible(marks: np.ndarray, depth: np.ndarray, side: int, slack: float) -> np.ndarray:
    """Return which landmarks (68 x 3, samples) are inside the picture and not behind the head or its hair."""
    x, y = np.rint(marks[:, 0]).astype(int), np.rint(marks[:, 1]).astype(int)
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    front = depth[np.clip(y, 0, side - 1) * side + np.clip(x, 0, side - 1)]
    return inside & (front <= marks[:, 2] + slack)
