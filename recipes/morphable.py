"""Makes the shipped face models: src/stillmotion/morphable/ict.safetensors and faces.safetensors, under 1 MB each.

    python recipes/morphable.py ICT_FOLDER [--out FOLDER]

ICT_FOLDER holds `ict_facekit_light.npz` (all meshes of the light ICT-FaceKit in one file: neutral, identity_delta,
expression_delta, expression_names, faces_quads) and its `vertex_indices.json`. Under a minute of one core.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from stillmotion.morphable.model import MorphableModel, outward, save_model
from stillmotion.worlds.faces import ACTION_UNITS, EMOTIONS
from stillmotion.worlds.faces.expression import BASIS as WORLD_EXPRESSIONS
from stillmotion.worlds.faces.grid import VERTICES as WORLD_LANDMARKS
from stillmotion.worlds.faces.identity import BASIS as WORLD_IDENTITIES
from stillmotion.worlds.faces.identity import MEAN as WORLD_MEAN
from stillmotion.worlds.faces.skin import FACE_VERTICES

OUT = Path(__file__).parents[1] / "src" / "stillmotion" / "morphable"
FACE = 9409  # the kit's first vertices: face, ears and the front of scalp and neck; mouth, eyes and teeth follow
VERTICES, IDENTITIES = 1600, 40
NEITHER = ("PupilDilate",)  # moves no vertex of the face

# Prototypes of the Facial Action Coding System, with its action units, on the kit's names.
ICT_EMOTIONS = {
    # 6 + 12 + 25
    "happiness": {
        "cheekSquint": 0.7, "mouthSmile": 0.9, "mouthUpperUp": 0.25, "mouthLowerDown": 0.25, "eyeSquint": 0.3,
    },
    # 1 + 4 + 15 + 17
    "sadness": {
        "browInnerUp": 0.9, "browDown": 0.2, "mouthFrown": 0.9, "mouthShrugLower": 0.5, "eyeBlink": 0.2,
        "eyeSquint": 0.3,
    },
    # 4 + 5 + 7 + 23
    "anger": {
        "browDown": 1.0, "eyeWide": 0.3, "eyeSquint": 0.8, "noseSneer": 0.45, "mouthPress": 0.9, "mouthFrown": 0.35,
        "mouthRollLower": 0.2,
    },
    # 1 + 2 + 5 + 26
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 1.0, "eyeWide": 0.9, "jawOpen": 0.6},
    # 1 + 2 + 4 + 5 + 20 + 25
    "fear": {
        "browInnerUp": 1.0, "browOuterUp": 0.3, "browDown": 0.25, "eyeWide": 1.0, "mouthStretch": 1.0, "jawOpen": 0.2,
        "mouthLowerDown": 0.3,
    },
    # 9 + 10 + 15 + 17
    "disgust": {
        "noseSneer": 1.0, "mouthUpperUp": 0.7, "browDown": 0.6, "cheekSquint": 0.6, "eyeSquint": 0.6,
        "mouthFrown": 0.4, "mouthShrugLower": 0.3,
    },
}  # fmt: skip


def both_sides(emotion: dict[str, float], names: list[str]) -> dict[str, float]:
    """`mouthSmile` as `mouthSmile_L` and `mouthSmile_R`."""
    return {name: emotion[stem] for name in names if (stem := name.removesuffix("_L").removesuffix("_R")) in emotion}


def split(quads: np.ndarray) -> np.ndarray:
    """Two triangles for every quad."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def edges(triangles: np.ndarray) -> np.ndarray:
    """Every side of every triangle, 3N x 2."""
    return np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])


def border(triangles: np.ndarray) -> list[np.ndarray]:
    """The loops of vertices around the mesh and its holes, each in order."""
    sides = {tuple(side) for side in edges(triangles).tolist()}
    after = {a: b for a, b in sides if (b, a) not in sides}
    loops = []
    while after:
        start = min(after)
        loop = [start]
        while (following := after.pop(loop[-1])) != start:
            loop.append(following)
        loops.append(np.array(loop))
    return loops


def decimate(mean: np.ndarray, triangles: np.ndarray, kept: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose `count` vertices, those in `kept` first, and a mesh between them.

    Vertices are added one by one where the mesh is farthest from those chosen; a path costs the square root of its
    edges' lengths, a compromise between even distances and the density that the kit's authors gave eyes and mouth.
    Every vertex then belongs to the nearest chosen one, and where three territories meet is a triangle: the mesh is
    the dual of a Voronoi diagram on the surface, so lips and lids that touch stay apart.

    Returns:
        The chosen vertices, and the triangles between them as numbers within `chosen`.
    """
    sides = edges(triangles)
    cost = np.sqrt(np.linalg.norm(mean[sides[:, 0]] - mean[sides[:, 1]], axis=1))
    graph = coo_matrix((cost, sides.T), (len(mean),) * 2).tocsr()
    graph = graph.maximum(graph.T)
    chosen = list(dict.fromkeys(kept.tolist()))
    distance = dijkstra(graph, indices=chosen, min_only=True)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, dijkstra(graph, indices=chosen[-1], limit=distance.max()))
    _, _, owner = dijkstra(graph, indices=chosen, min_only=True, return_predecessors=True)
    number = np.full(len(mean), -1)
    number[chosen] = np.arange(len(chosen))
    owned = number[owner][triangles]
    meeting = (owned[:, 0] != owned[:, 1]) & (owned[:, 1] != owned[:, 2]) & (owned[:, 2] != owned[:, 0])
    rolled = np.array([np.roll(corners, -int(corners.argmin())) for corners in owned[meeting]])
    return np.array(chosen), np.unique(rolled, axis=0)


def front(mean: np.ndarray, jaw: np.ndarray) -> np.ndarray:
    """Which vertices move with the face: without neck, which does not turn with a head, ears and scalp; unit: 1 cm.

    `jaw`: the first 9 landmarks, from an ear to the chin.
    """
    x, y, z = mean.T
    return (np.abs(x) < 7.75) & (y < 9.5) & (z > 2.4) & (y > np.interp(z, jaw[:, 2], jaw[:, 1]) - 0.8)


def ict(folder: Path) -> MorphableModel:
    """The kit's face with fewer vertices and the strongest identities."""
    stored = np.load(folder / "ict_facekit_light.npz", allow_pickle=False)
    landmarks = np.array(json.loads((folder / "vertex_indices.json").read_text())["idx_to_landmark_verts"])
    quads = stored["faces_quads"]
    mean = stored["neutral"][:FACE].astype(np.float64)
    quads = quads[(quads < FACE).all(1)]
    quads = quads[front(mean, mean[landmarks[:9]])[quads].all(1)]
    used, quads = np.unique(quads, return_inverse=True)  # other vertices are not reached from the landmarks
    landmarks = np.searchsorted(used, landmarks)
    mean = mean[used]
    triangles = outward(mean, split(quads.reshape(-1, 4)))
    outline = np.concatenate([loop[::3] for loop in border(triangles)])
    chosen, mesh = decimate(mean, triangles, np.concatenate([landmarks, outline]), VERTICES)
    kept = used[chosen]
    identities = stored["identity_delta"][:, kept].astype(np.float32)
    strongest = np.sort(np.argsort(-(identities**2).sum((1, 2)))[:IDENTITIES])
    names = [name for name in stored["expression_names"].tolist() if not name.startswith(NEITHER)]
    expressions = stored["expression_delta"][:, kept].astype(np.float32)
    place = {vertex: i for i, vertex in enumerate(chosen.tolist())}
    return MorphableModel(
        mean=mean[chosen],
        identity_basis=identities[strongest],
        expression_basis=expressions[[stored["expression_names"].tolist().index(name) for name in names]],
        identity_std=np.ones(IDENTITIES),
        expression_std=np.full(len(names), 0.5),
        triangles=mesh,
        landmarks=np.array([place[vertex] for vertex in landmarks.tolist()]),
        expression_names=tuple(names),
        expression_range=(0.0, 1.0),
        emotions={emotion: both_sides(weights, names) for emotion, weights in ICT_EMOTIONS.items()},
    )


def faces_world() -> MorphableModel:
    """The face region of the world's grid: the same vertices, so its own normals, landmarks and coefficients."""
    rows, columns = FACE_VERTICES.shape
    number = np.arange(rows * columns).reshape(rows, columns)
    quads = np.stack([number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]], -1).reshape(-1, 4)
    needed = FACE_VERTICES.ravel() > 0
    triangles = split(quads[needed[quads].all(1)])
    chosen, mesh = np.unique(triangles, return_inverse=True)
    landmarks = WORLD_LANDMARKS[:, 0] * columns + WORLD_LANDMARKS[:, 1]
    extra = np.setdiff1d(landmarks, chosen)  # landmarks beside the region that is drawn
    chosen = np.concatenate([chosen, extra])
    place = {vertex: i for i, vertex in enumerate(chosen.tolist())}
    mean = WORLD_MEAN.reshape(-1, 3)[chosen]
    return MorphableModel(
        mean=mean,
        identity_basis=WORLD_IDENTITIES.reshape(len(WORLD_IDENTITIES), -1, 3)[:, chosen],
        expression_basis=WORLD_EXPRESSIONS.reshape(len(WORLD_EXPRESSIONS), -1, 3)[:, chosen],
        identity_std=np.ones(len(WORLD_IDENTITIES)),
        expression_std=np.full(len(WORLD_EXPRESSIONS), 0.5),
        triangles=outward(mean, mesh.reshape(-1, 3)),
        landmarks=np.array([place[vertex] for vertex in landmarks.tolist()]),
        expression_names=tuple(ACTION_UNITS),
        expression_range=(0.0, 1.2),
        emotions=EMOTIONS,
    )


def main() -> None:
    """Write both models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ict", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    kit = {
        "source": "ICT-FaceKit, light model, github.com/ICT-VGL/ICT-FaceKit, commit da5f95a: the face, decimated",
        "licence": "MIT, Copyright (c) 2020 USC Institute for Creative Technologies; see ict.LICENSE",
    }
    save_model(given.out / "ict.safetensors", ict(given.ict), kit)
    own = {"source": "stillmotion.worlds.faces, the face without the rest of the head", "licence": "Apache-2.0"}
    save_model(given.out / "faces.safetensors", faces_world(), own)
    (given.out / "ict.LICENSE").write_bytes((given.ict / "LICENSE").read_bytes())


if __name__ == "__main__":
    main()
