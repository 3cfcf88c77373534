"""Basel Face Models from a user's own files; their licence does not allow to ship them.

Two forms of the 2009 model are supported:

* `01_MorphableModel.mat` as published (shapeMU, shapePC, shapeEV, tl), with the expressions of Guo et al. beside it:
  `Exp_Pca.bin`, `std_exp.txt` and, since those have fewer vertices, `BFM_exp_idx.mat` (trimIndex);
* `param_mesh.mat` of the structures paper's release (w, w_exp, mu_shape, mu_exp, tri; from 3DDFA).

The models of 2017 and 2019 (.h5) are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from stillmotion.errors import StillmotionError
from stillmotion.files import parsing, read_json
from stillmotion.morphable.model import LANDMARKS, MorphableModel, outward

_SHARE = 0.01
"""`param_mesh.mat` has no standard deviations: one is taken to move vertices by this share of the head's height."""


def read_basel_model(path: Path, landmarks: Path | Sequence[int] | None = None) -> MorphableModel:
    """Open a Basel Face Model of 2009.

    Args:
        path: `01_MorphableModel.mat` or `param_mesh.mat`; the first needs `Exp_Pca.bin` and `std_exp.txt` beside it.
        landmarks: the vertices (from 0) of the 68 landmarks, or a JSON file with a list of them; None takes the
            file's `keypoints` (3 x vertex + axis, as in the release, or vertices).

    Returns:
        A model in the file's units; its coefficients have a standard deviation of 1.

    Raises:
        StillmotionError: the file is of another kind, or counts do not fit together.
    """
    stored = _read_mat(path)
    with parsing(f"The face model {path}", "take it as its publisher gives it"):
        return _assembled(path, stored, landmarks)


def _assembled(path: Path, stored: dict[str, Any], landmarks: Path | Sequence[int] | None) -> MorphableModel:
    if "shapeMU" in stored:
        mean, identity, expression, triangles = _published(path, stored)
    elif {"mu_shape", "mu_exp", "w", "w_exp", "tri"} <= set(stored):
        mean, identity, expression, triangles = _released(path, stored)
    else:
        raise StillmotionError(
            f"{path} is not a Basel Face Model of 2009: it has neither shapeMU nor mu_shape, mu_exp, w, w_exp, tri."
        )
    if triangles.min() < 1 or triangles.max() > len(mean):
        raise StillmotionError(f"{path} has {len(mean)} vertices, but its triangles name {triangles.max()} (from 1).")
    mean = mean.astype(np.float32)
    return MorphableModel(
        mean, identity.astype(np.float32), expression.astype(np.float32), np.ones(len(identity)),
        np.ones(len(expression)), outward(mean, triangles - 1), _landmarks(path, stored, landmarks, len(mean)),
    )  # fmt: skip


def _read_mat(path: Path) -> dict[str, Any]:
    if path.suffix.lower() in (".h5", ".hdf5"):
        raise StillmotionError(
            f"{path}: of the Basel Face Models only that of 2009 (.mat) can be read, not .h5 files."
        )
    if not path.is_file():
        raise StillmotionError(f"The face model {path} does not exist.")
    with parsing(f"The face model {path}", "this is not a readable MATLAB file"):
        try:
            return {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
        except MemoryError as error:  # scipy believes what a file says of its sizes
            raise ValueError("it says that it is larger than the memory") from error


Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Mean, identity basis, expression basis (each coefficient in standard deviations), triangles from 1."""


def _published(path: Path, stored: dict[str, Any]) -> Parts:
    """`01_MorphableModel.mat`: coordinates interleaved, one column per component."""
    for name in ("shapePC", "shapeEV", "tl"):
        if name not in stored:
            raise StillmotionError(f"{path} lacks {name!r}: take 01_MorphableModel.mat as the university gives it.")
    mean = _vertices(path, "shapeMU", stored["shapeMU"])[0]
    identity = _vertices(path, "shapePC", stored["shapePC"], len(mean)) * _column(stored["shapeEV"])
    triangles = np.asarray(stored["tl"], int)
    index = path.parent / "BFM_exp_idx.mat"
    if index.exists():
        trimmed = _read_mat(index)["trimIndex"].astype(int).ravel() - 1
        number = np.zeros(len(mean), int)
        number[trimmed] = np.arange(1, len(trimmed) + 1)
        mean, identity, triangles = mean[trimmed], identity[:, trimmed], number[triangles - 1]
        triangles = triangles[(triangles > 0).all(1)]
    offset, expression = _read_expressions(path.parent, len(mean))
    return mean + offset, identity, expression, triangles


def _read_expressions(folder: Path, vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """`Exp_Pca.bin`: the number of components (int32), their mean, then each of them (float32); `std_exp.txt`."""
    path, stds = folder / "Exp_Pca.bin", folder / "std_exp.txt"
    try:
        content, std = path.read_bytes(), np.loadtxt(stds).ravel()
    except (OSError, ValueError) as error:
        raise StillmotionError(
            f"The expressions of {folder} need Exp_Pca.bin and std_exp.txt there ({error})."
        ) from error
    count = int(np.frombuffer(content[:4], "<i4")[0]) if len(content) >= 4 else 0
    values = np.frombuffer(content[4 : 4 + (len(content) - 4) // 4 * 4], "<f4")
    if not 0 < count <= 1000 or len(values) != 3 * vertices * (count + 1) or len(std) != count:
        raise StillmotionError(
            f"{path} has {len(values)} numbers for {count} expressions and std_exp.txt {len(std)}, which does not "
            f"fit {vertices} vertices (BFM_exp_idx.mat beside it drops those without expressions)."
        )
    parts = values.reshape(count + 1, vertices, 3)
    return parts[0], parts[1:] * std[:, None, None]


def _released(path: Path, stored: dict[str, Any]) -> Parts:
    """`param_mesh.mat`: 40 + 10 columns are used in the release; all that are there are taken here."""
    mean = _vertices(path, "mu_shape", stored["mu_shape"])[0]
    offset = _vertices(path, "mu_exp", stored["mu_exp"], len(mean))[0]
    identity, expression = (_vertices(path, name, stored[name], len(mean)) for name in ("w", "w_exp"))
    moved = _SHARE * np.ptp(mean[:, 1])
    identity, expression = (
        basis * (moved / np.sqrt((basis**2).sum(2).mean(1)))[:, None, None] for basis in (identity, expression)
    )
    triangles = np.asarray(stored["tri"], int)
    return mean + offset, identity, expression, triangles.T if triangles.shape[0] == 3 else triangles


def _vertices(path: Path, name: str, values: np.ndarray, count: int | None = None) -> np.ndarray:
    """3V x C as C x V x 3."""
    values = np.asarray(values, float)
    values = values.reshape(len(values), -1) if len(values) > 1 else values.reshape(-1, 1)
    if len(values) % 3 or (count is not None and len(values) != 3 * count):
        wanted = "three for every vertex" if count is None else f"{3 * count}, three for each of {count} vertices"
        raise StillmotionError(f"{path}: {name} has {len(values)} rows, not {wanted}.")
    return values.T.reshape(values.shape[1], -1, 3)


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, float).ravel()[:, None, None]


def _landmarks(path: Path, stored: dict[str, Any], given: Path | Sequence[int] | None, vertices: int) -> np.ndarray:
    if given is None and "keypoints" not in stored:
        raise StillmotionError(
            f"{path} does not say which vertices the {LANDMARKS} landmarks are: give them in a file."
        )
    values = stored["keypoints"] if given is None else read_json(given) if isinstance(given, Path) else given
    found = np.asarray(values).ravel()
    if given is None and found.size == 3 * LANDMARKS:
        found = found[::3] // 3
    if found.shape != (LANDMARKS,) or found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= vertices:
        raise StillmotionError(f"The landmarks of {path} are {LANDMARKS} whole numbers from 0 to {vertices - 1}.")
    return found.astype(np.int64)
