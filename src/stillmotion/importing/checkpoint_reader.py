"""A program of its own: a checkpoint of `torch.save` on standard input, safetensors on standard output.

It runs in a separate process that gives up opening files, connections and processes before it reads; see `states.py`.
It imports nothing of the package.

Arguments: the names of the states that are wanted, keys of the checkpoint.
"""

from __future__ import annotations

import io
import resource
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import safetensors.torch
import torch

SECONDS = 600
"""Of computing, after which the kernel ends the process."""


def read(content: bytes) -> Any:
    """Tensors and plain containers alone: torch refuses every other class before it makes anything of it."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def warm_up() -> None:
    """Read both formats of `torch.save` once, and write once: what is imported for that is imported now."""
    for zipped in (True, False):
        sample = io.BytesIO()
        torch.save({"warm": torch.zeros(1)}, sample, _use_new_zipfile_serialization=zipped)
        safetensors.torch.save(read(sample.getvalue()))


def give_up() -> None:
    """From here on no file or connection can be opened, no process started and no file written."""
    for what, most in (
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, SECONDS),
    ):
        resource.setrlimit(what, (most, most))


def tensors_of(state: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a state by name, in memory of their own; anything else in it is left out."""
    for name, value in state.items() if isinstance(state, Mapping) else ():
        if isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided:
            yield f"{prefix}/{name}", value.detach().clone().contiguous()


def main() -> None:
    """Read, and write what is wanted; ends with a sentence and the exit status 1 where the content is refused."""
    content = sys.stdin.buffer.read()
    warm_up()
    give_up()
    try:
        checkpoint = read(content)
    except Exception as error:  # whatever a damaged or hostile file causes
        sys.exit(str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__)
    if not isinstance(checkpoint, Mapping):
        sys.exit("it is not a dict of states")
    found: dict[str, torch.Tensor] = {}
    for name in sys.argv[1:]:
        found.update(tensors_of(checkpoint.get(name), name))
    keys = " ".join(str(key)[:60] for key in list(checkpoint)[:20])
    sys.stdout.buffer.write(safetensors.torch.save(found, {"keys": keys}))


if __name__ == "__main__":
    main()
