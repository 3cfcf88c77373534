"""A morphable model: mean face + identity basis x coefficients + expression basis x coefficients (Sec. 3.1).

Axes of the model: x to the picture's right, y up, z towards the viewer. Its unit is its own. Whatever the source (the
shipped ICT-FaceKit, the `faces` world, a Basel Face Model), the rest of the code sees a `MorphableModel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from stillmotion.errors import StillmotionError, check_known
from stillmotion.files import load_tensors, read_json, save_tensors, write_json

LANDMARKS = 68
_FOLDER = Path(__file__).parent
_BASES = ("mean", "identity_basis", "expression_basis")


@dataclass(frozen=True, eq=False)
class MorphableModel:
    """A linear model of faces; V vertices, K identity and E expression coefficients, N triangles.

    Attributes:
        mean: V x 3, the mean face with a neutral expression.
        identity_basis: K x V x 3.
        expression_basis: E x V x 3.
        identity_std: K, standard deviations of the coefficients among people.
        expression_std: E, the same among expressions.
        triangles: N x 3, vertices of each triangle, counter-clockwise seen from outside of the head.
        landmarks: 68 vertices, in the order of iBUG and dlib.
        expression_names: E names; empty where the coefficients have none.
        expression_range: lowest and highest sensible expression coefficient; None = any.
        emotions: expression coefficients by their names, for every emotion by its name.
    """

    mean: np.ndarray
    identity_basis: np.ndarray
    expression_basis: np.ndarray
    identity_std: np.ndarray
    expression_std: np.ndarray
    triangles: np.ndarray
    landmarks: np.ndarray
    expression_names: tuple[str, ...] = ()
    expression_range: tuple[float, float] | None = None
    emotions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vertices, people, expressions = len(self.mean), len(self.identity_basis), len(self.expression_basis)
        for name, shape in (
            ("mean", (vertices, 3)),
            ("identity_basis", (people, vertices, 3)),
            ("expression_basis", (expressions, vertices, 3)),
            ("identity_std", (people,)),
            ("expression_std", (expressions,)),
            ("triangles", (len(self.triangles), 3)),
            ("landmarks", (LANDMARKS,)),
        ):
            if getattr(self, name).shape != shape:
                raise StillmotionError(
                    f"The face model's {name} has the shape {getattr(self, name).shape} where its {vertices} "
                    f"vertices, {people} identities and {expressions} expressions ask for {shape}."
                )
        for name in ("triangles", "landmarks"):
            if getattr(self, name).min() < 0 or getattr(self, name).max() >= vertices:
                raise StillmotionError(f"The face model's {name} name vertices beyond its {vertices}.")
        if self.expression_names and len(self.expression_names) != expressions:
            raise StillmotionError(
                f"The face model has {expressions} expressions but {len(self.expression_names)} names for them."
            )

    def vertices(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """The vertices of one person, K coefficients, with the expressions ... x E: ... x V x 3, `float32`.

        Raises:
            StillmotionError: another number of coefficients than the model has.
        """
        identity, expression = np.asarray(identity, np.float32), np.asarray(expression, np.float32)
        for what, given, basis in (
            ("identity", identity, self.identity_basis),
            ("expression", expression, self.expression_basis),
        ):
            if given.ndim == 0 or given.shape[-1] != len(basis):
                count = given.shape[-1] if given.ndim else 1
                raise StillmotionError(f"The face model has {len(basis)} {what} coefficients, not {count}.")
        neutral = self.mean + np.tensordot(identity, self.identity_basis, 1)
        return neutral + np.tensordot(expression, self.expression_basis, 1)

    def only_landmarks(self) -> MorphableModel:
        """The same model with the 68 landmarks as its vertices, in their order, and no mesh."""
        bases = {name: getattr(self, name)[..., self.landmarks, :] for name in _BASES}
        return replace(self, **bases, triangles=np.zeros((1, 3), int), landmarks=np.arange(LANDMARKS))


def triangle_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals of triangles, ... x N x 3, out of the head; zero where a triangle has no area.

    Args:
        vertices: ... x V x 3.
        triangles: N x 3.
    """
    return _unit(_areas(vertices, triangles))


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals of vertices, ... x V x 3: the mean of the triangles around each, weighted by their areas."""
    areas = _areas(vertices, triangles)
    found = np.zeros_like(vertices)
    flat, areas = found.reshape(-1, *found.shape[-2:]), areas.reshape(-1, *areas.shape[-2:])
    for axis in range(3):
        for frame, area in zip(flat, areas, strict=True):
            weights = np.repeat(area[:, axis], 3)
            frame[:, axis] = np.bincount(triangles.ravel(), weights, minlength=len(frame))
    return _unit(found)


def _areas(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Normals as long as twice a triangle's area."""
    first, second, third = (np.take(vertices, triangles[:, i], axis=-2) for i in range(3))
    return np.cross(second - first, third - first)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def outward(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Triangles turned so that their normals point out of the head, whichever way the file had them."""
    middle = np.take(vertices, triangles, axis=0).mean(1) - vertices.mean(0)
    return triangles if (_areas(vertices, triangles) * middle).sum() >= 0 else triangles[:, ::-1]


def save_model(path: Path, model: MorphableModel, about: Mapping[str, str]) -> None:
    """Write a model as FILE.safetensors, vertices and bases in half precision, and FILE.json.

    Args:
        path: the safetensors file.
        model: what is written.
        about: source and licence, in words.
    """
    tensors = {"mean": torch.from_numpy(model.mean.astype(np.float32))}
    for name in ("identity_basis", "expression_basis", "identity_std", "expression_std"):
        tensors[name] = torch.from_numpy(getattr(model, name).astype(np.float16))
    for name in ("triangles", "landmarks"):
        tensors[name] = torch.from_numpy(getattr(model, name).astype(np.int16))
    save_tensors(path, tensors)
    write_json(
        path.with_suffix(".json"),
        {
            **about,
            "expression_range": model.expression_range,
            "expression_names": model.expression_names,
            "emotions": model.emotions,
        },
    )


def read_model(path: Path) -> MorphableModel:
    """Open what `save_model` wrote.

    Raises:
        StillmotionError: a file is missing or damaged, or its counts do not fit together.
    """
    tensors, about = load_tensors(path), read_json(path.with_suffix(".json"))
    try:
        whole = {name: tensors[name].numpy().astype(np.int64) for name in ("triangles", "landmarks")}
        bases = ("mean", "identity_basis", "expression_basis", "identity_std", "expression_std")
        numbers = {name: tensors[name].numpy().astype(np.float32) for name in bases}
        limits = about["expression_range"] and tuple(about["expression_range"])
        return MorphableModel(
            **numbers, **whole, expression_names=tuple(about["expression_names"]), expression_range=limits,
            emotions=about["emotions"],
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise StillmotionError(
            f"The face model {path} lacks {error}; make it again with recipes/morphable.py."
        ) from error


@cache
def shipped_model(name: str = "ict") -> MorphableModel:
    """The reduced ICT-FaceKit, `ict`, or the face model of the `faces` world, `faces`.

    Raises:
        StillmotionError: there is no such model.
    """
    check_known("face model", name, sorted(path.stem for path in _FOLDER.glob("*.safetensors")))
    return read_model(_FOLDER / f"{name}.safetensors")
