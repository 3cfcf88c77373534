"""Small trees in the layouts of published data sets."""

from pathlib import Path

import numpy as np

from stillmotion.media import write_picture


def frames(folder: Path, length: int = 3) -> None:
    folder.mkdir(parents=True)
    for t in range(length):
        write_picture(folder / f"{t}.png", np.full((8, 8, 3), t, np.uint8))


def empty(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
