"""The verb that shows what a model knows of an object's structure: `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillmotion.errors import StillmotionError
from stillmotion.options import device_option, option, whole


def _point(text: str) -> tuple[float, float]:
    x, comma, y = text.partition(",")
    if not comma:
        raise ValueError(text)
    return float(x), float(y)


_point.__name__ = "X,Y"  # argparse names the type in its sentences


@dataclass(frozen=True)
class Explain:
    """Show which parts of a still move together."""

    still: str = option("still", help="a picture (PNG, JPEG, WebP)")
    model: str = option("--model", metavar="NAME", help="a model that takes pokes")
    out: str = option("-o", "--out", metavar="FILE.png", help="the map, a picture of the still's size")
    at: tuple[float, float] | None = option(
        "--at",
        default=None,
        metavar="X,Y",
        parse=_point,
        help="a heat map: how much every pixel moves as this one does, over random pokes of it",
    )
    parts: int | None = option(
        "--parts", default=None, metavar="K", parse=whole, help="instead, so many parts that move together, coloured"
    )
    nearest: str | None = option(
        "--nearest", default=None, metavar="DATA", help="instead, the prepared clips whose stills look most alike"
    )
    pokes: int = option("--pokes", default=1000, metavar="N", parse=whole, help="random pokes of the heat map")
    seed: int = option("--seed", default=0, metavar="S", parse=int, help="of the random pokes")
    device: str = device_option("cpu")

    def run(self) -> None:
        """Compute the picture and write it."""
        from stillmotion.animate import load

        asked = {name: value for name in ("at", "parts", "nearest") if (value := getattr(self, name)) is not None}
        if len(asked) != 1:
            raise StillmotionError("Say what to show: one of --at X,Y, --parts K and --nearest DATA.")
        animator = load(self.model, device=self.device)
        picture = animator.explain(self.still, self.out, pokes=self.pokes, seed=self.seed, **self._read(asked))
        print(f"{self.out}: {picture.shape[1]} x {picture.shape[0]} pixels")

    def _read(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        if "nearest" not in asked:
            return asked
        from stillmotion.data.clipset import open_dataset

        return {"nearest": open_dataset(asked["nearest"])}
