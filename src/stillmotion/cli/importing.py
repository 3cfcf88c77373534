"""The verb that makes a model of a checkpoint of other code: `import`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillmotion.errors import StillmotionError
from stillmotion.options import option


@dataclass(frozen=True)
class Import:
    """Turn a checkpoint that a paper's authors published into a model."""

    file: str = option("file", metavar="FILE", help="what their training wrote, e.g. 00000099-checkpoint.pth.tar")
    target: str = option(
        "--as", metavar="SYSTEM:PRESET", help="the setting it was trained with, e.g. driving:release-taichi"
    )
    out: str = option("-o", "--out", metavar="MODEL", help="folder for the model")
    overwrite: bool = option("-y", "--overwrite", default=False, help="replace what is there")

    def run(self) -> None:
        """Import, and say what came out."""
        from stillmotion.importing import import_model

        out = Path(self.out)
        if out.exists() and not self.overwrite:
            raise StillmotionError(f"{self.out!r} already exists; pass --overwrite (-y) or choose another name.")
        system = import_model(Path(self.file), self.target, out)
        print(f"{self.out}: a {system.name} model, animate with --model {self.out}")
