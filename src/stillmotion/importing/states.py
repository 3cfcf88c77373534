"""The states of networks in a checkpoint of `torch.save`, read without running anything that it holds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from stillmotion.errors import StillmotionError

READER = Path(__file__).with_name("checkpoint_reader.py")

_SECONDS = 900
_KEPT = ("PATH", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # what starting Python may need


def read_states(path: Path, names: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Tensors by name of each state.

    A checkpoint of `torch.save` is a pickle, which may name any function to be called. It is read by a process that
    admits tensors and plain containers alone, cannot open a file or a connection or start a process, and gives back
    arrays; see `checkpoint_reader.py`.

    Args:
        path: the checkpoint, zipped or not.
        names: the states that are needed, keys of the checkpoint.

    Raises:
        StillmotionError: the file is missing, holds anything else, or lacks a state; on Windows, which has no such
            limits for processes.
    """
    if os.name != "posix":
        raise StillmotionError("Checkpoints of other code are read on Linux and macOS only.")
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"OMP_NUM_THREADS": "1"}
    try:
        with path.open("rb") as file:
            done = subprocess.run(
                [sys.executable, "-I", str(READER), *names],
                stdin=file,
                capture_output=True,
                env=environment,
                timeout=_SECONDS,
                check=False,
            )
        tensors = safetensors.torch.load(done.stdout) if done.returncode == 0 else {}
    except OSError as error:
        raise StillmotionError(f"The checkpoint {path} cannot be read: {error.strerror or error}.") from None
    except (subprocess.TimeoutExpired, safetensors.SafetensorError):
        raise StillmotionError(f"The checkpoint {path} cannot be read.") from None
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["the process ended"])[-1]
        raise StillmotionError(f"The checkpoint {path} is no dict of tensors and plain containers: {reason}")
    states: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for name, value in tensors.items():
        state, _, entry = name.partition("/")
        states[state][entry] = value
    missing = [name for name, state in states.items() if not state]
    if missing:
        raise StillmotionError(f"The checkpoint {path} has no state {missing[0]!r}, which holds the weights.")
    return states
