"""The speed of `nn.unet.upsample_conv2d`: `python benchmarks/upsample_conv.py FILE.json [repeats]`.

Per layer of `driving`'s decoder (small preset, batch 16): upsampling first against the rewritten convolution, forward
alone and forward with backward, in rounds that time every variant once.
"""

import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.evaluation.speed import interleaved, machine, spread
from stillmotion.files import write_json
from stillmotion.nn.unet import upsample_conv2d

LAYERS = ((138, 128, 4), (266, 64, 8), (138, 32, 16), (74, 16, 32))  # inputs, outputs, side of the small map
BATCH = 16


def main(out: str, repeats: int = 15) -> None:
    """Measure every layer and write medians, quartiles and ratios."""
    report = {"machine": machine(), "repeats": repeats, "batch": BATCH, "layers": {}}
    for inputs, outputs, side in LAYERS:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1).to(memory_format=torch.channels_last)
        x = torch.randn(BATCH, inputs, side, side).to(memory_format=torch.channels_last).requires_grad_()

        def plain(x: Tensor = x, conv: nn.Conv2d = conv) -> Tensor:
            return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

        def fast(x: Tensor = x, conv: nn.Conv2d = conv) -> Tensor:
            return upsample_conv2d(x, conv)

        with torch.no_grad():
            times = interleaved({"plain": plain, "fast": fast}, repeats)
        both = interleaved(
            {"plain": lambda: plain().sum().backward(), "fast": lambda: fast().sum().backward()}, repeats
        )
        entry = {}
        for what, found in (("forward", times), ("with backward", both)):
            entry[what] = {name: spread(seconds) for name, seconds in found.items()}
            ratio = statistics.median(found["plain"]) / statistics.median(found["fast"])
            entry[what]["plain / fast"] = ratio
            print(f"{inputs} -> {outputs} at {side}, {what}: {ratio:.2f} times")
        report["layers"][f"{inputs} -> {outputs} at {side}"] = entry
    write_json(Path(out), report)


if __name__ == "__main__":
    main(sys.argv[1], *(int(value) for value in sys.argv[2:]))
