"""Files of numbers and settings: tensors as safetensors, everything else as JSON, never pickle.

What is read may come from anyone: each file is checked against one schema, a dataclass, before any of it is used, and
whatever cannot be used is a `StillmotionError`. What is written is whole or absent (see `outputs`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin, get_type_hints

import safetensors
from pydantic import ConfigDict, TypeAdapter, ValidationError

from stillmotion.errors import StillmotionError
from stillmotion.outputs import write_bytes

if TYPE_CHECKING:  # torch is imported where it is needed: processes that only read videos can do without
    import numpy as np
    from torch import Tensor, nn

Settings = TypeVar("Settings")

_KINDS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "BF16", "F32", "F64")
WEIGHTS_LIST = "weights.json"  # in a folder of `stillmotion weights`: the digests by file
_MOST_DIMENSIONS, _MOST_LENGTH = 16, 2**40  # of a tensor


@contextlib.contextmanager
def parsing(what: str, advice: str = "get it again") -> Iterator[None]:
    """Raise a `StillmotionError` about `what` in place of whatever parsers raise on bytes that anyone may have made.

    Not for `MemoryError`, which says nothing about the bytes, nor for what stops the process.
    """
    try:
        yield
    except (StillmotionError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split()).rstrip(".")
        raise StillmotionError(f"{what} is damaged or cut short ({reason[:200]}): {advice}.") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused (they are not JSON)."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path, most_bytes: int = 2**28) -> Any:
    """Read a JSON file.

    Raises:
        StillmotionError: the file is missing, unreadable, larger than `most_bytes` or not JSON.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except FileNotFoundError as error:
        raise StillmotionError(f"The file {path} does not exist.") from error
    except (OSError, ValueError) as error:
        raise StillmotionError(f"The file {path} cannot be read ({error}).") from error
    if len(content) > most_bytes:
        raise StillmotionError(f"The file {path} is larger than {most_bytes} bytes.")
    return parse_json(content, f"The file {path}")


def parse_json(content: bytes, what: str) -> Any:
    """The value of JSON text.

    Raises:
        StillmotionError: it is not JSON, is nested too deeply, or holds NaN, infinity, or text that UTF-8 cannot
            hold; begins with `what`.
    """
    with parsing(what, "it is not readable JSON"):
        value = json.loads(content, parse_float=_finite, parse_constant=_finite)
        if b"\\ud" in content or b"\\uD" in content:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is text that nothing can print
        return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def read_settings(path: Path, settings_class: type[Settings]) -> Settings:
    """Read a JSON file that holds one dataclass.

    Raises:
        StillmotionError: as `read_json` and `parse_settings`.
    """
    return parse_settings(settings_class, read_json(path), str(path))


STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""For dataclasses of settings: unknown fields, NaN and infinity are refused; text that spells a number is one."""


@functools.cache
def _adapter(settings_class: Any) -> TypeAdapter[Any]:
    return TypeAdapter(settings_class)


def parse_settings(settings_class: type[Settings], values: Any, where: str) -> Settings:
    """Make a dataclass of settings from plain values, nested as its fields are.

    Raises:
        StillmotionError: an unknown field (names the nearest known one), or a value of the wrong kind or outside its
            range; begins with `where`.
    """
    try:
        return cast(Settings, _adapter(cast(Any, settings_class)).validate_python(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            known = setting_names(settings_class)
            raise StillmotionError(f"{where}: {unknown_setting(name, known)}") from error
        if first["type"] == "dataclass_type" and not name:
            raise StillmotionError(f"{where} does not hold names and values.") from error
        reason = str(first.get("ctx", {}).get("error") or f"{first['msg']}.")
        named = name and not reason.startswith(name.rpartition(".")[2])
        raise StillmotionError(f"{where}: {name + ': ' if named else ''}{reason}") from error


def change_settings(settings: Settings, changes: Mapping[str, Any], where: str) -> Settings:
    """The same settings with some fields changed.

    Args:
        settings: a dataclass, nested by owner.
        changes: new values by dotted name, such as `generator.width`; an entry of a tuple of dataclasses is named by
            its field `name` (`motion_stages.joint.steps`). The text `none` means None where a field may be None; a
            name below a field that is None (`predictor.hidden`) makes what belongs there.
        where: begins the sentence of an error.

    Raises:
        StillmotionError: there is no such field (names the nearest one), or the value cannot be used.
    """
    values: dict[str, Any] = dataclasses.asdict(cast(Any, settings))
    for name, value in changes.items():
        *owners, last = name.split(".")
        kind = _annotation(type(settings), [*owners, last])
        place: Any = values
        for part in owners:
            inside = _by_name(place)
            if part in inside and inside[part] is None:
                inside[part] = {}
            place = inside.get(part)
        if kind is None or not isinstance(place, dict):
            raise StillmotionError(f"{where}: {unknown_setting(name, _dotted(values))}")
        place[last] = None if value in ("none", "None") and NoneType in get_args(kind) else value
        if isinstance(place[last], str) and any(get_origin(each) is tuple for each in (kind, *get_args(kind))):
            place[last] = [part.strip() for part in value.strip("()").split(",") if part.strip()]  # `()`, `walk,run`
    return parse_settings(type(settings), values, where)


def _annotation(kind: Any, parts: Sequence[str]) -> Any:
    """The type of the field that a dotted name leads to from a dataclass; None if it leads nowhere."""
    for part in parts:
        inner = next((each for each in (kind, *get_args(kind)) if dataclasses.is_dataclass(each)), None)
        named = get_origin(kind) is tuple  # this part is the name of an entry
        kind = inner if named or inner is None else get_type_hints(inner).get(part)
    return kind


def _by_name(values: Any) -> Any:
    """The entries of nested plain values by name; those of a tuple of dataclasses by their field `name`."""
    if isinstance(values, list | tuple):
        return {entry["name"]: entry for entry in values if isinstance(entry, dict)}
    return values if isinstance(values, dict) else {}


def unknown_setting(name: str, known: Sequence[str]) -> str:
    """A sentence about a setting that there is not; names the most similar one."""
    last = {each.rpartition(".")[2]: each for each in known}
    near = difflib.get_close_matches(name, known, 1, 0.5)
    near = near or [last[each] for each in difflib.get_close_matches(name.rpartition(".")[2], list(last), 1)]
    owners = ", ".join(dict.fromkeys(each.partition(".")[0] for each in known))
    return f"{name!r} is not a setting; " + (f"did you mean {near[0]!r}?" if near else f"known are {owners}.")


def setting_names(settings_class: type) -> list[str]:
    """Dotted names of all fields of a dataclass of settings."""
    found = []
    hints = get_type_hints(settings_class)
    for each in dataclasses.fields(settings_class):
        inner = [kind for kind in (hints[each.name], *get_args(hints[each.name])) if dataclasses.is_dataclass(kind)]
        found += [each.name] if not inner else [f"{each.name}.{name}" for name in setting_names(cast(type, inner[0]))]
    return found


def _dotted(values: Any) -> list[str]:
    """Dotted names of the leaves of nested plain values."""
    entries = _by_name(values)
    return [f"{key}.{name}".rstrip(".") for key, value in entries.items() for name in _dotted(value)] or [""]


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as one safetensors file, atomically.

    Tensors may live on any device, in any memory layout, and may share memory (tied weights are written twice).

    Raises:
        StillmotionError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    import safetensors.torch

    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous()
        pointer = flat.untyped_storage().data_ptr()
        # safetensors refuses tensors that share memory; a copy costs little and keeps the caller simple.
        plain[name] = flat.clone() if pointer in seen else flat
        seen.add(pointer)
    write_bytes(path, safetensors.torch.save(plain))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file written by anyone; tensors arrive on the CPU.

    Raises:
        StillmotionError: the file is missing, truncated, not safetensors (a pickle or zip file under that
            name is named as such and never opened), has a tensor of another kind than booleans, integers and floats
            of 16 to 64 bits, or holds NaN or infinity.
    """
    import safetensors.torch
    import torch

    tensor_shapes(path)
    with parsing(f"The file {path}"):
        tensors = safetensors.torch.load_file(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise StillmotionError(f"The tensor {name!r} in {path} holds NaN or infinity; it cannot be used.")
    return tensors


def load_array(path: Path, what: str) -> np.ndarray:
    """The numbers of a `.npy` file that anyone may have written; `what` they are begins the sentence of an error.

    Raises:
        StillmotionError: the file is missing, holds something else, or less than its header says.
    """
    import numpy as np

    with parsing(f"{what} {path}", "this is not a readable .npy file of numbers"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # a map is no longer than the file
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise ValueError("it holds no plain numbers")
        return np.array(array)


def check_shapes(network: nn.Module, shapes: Mapping[str, Sequence[int]], where: str) -> None:
    """Compare stored tensors, by name and shape, with what a network wants.

    Raises:
        StillmotionError: a tensor is missing, superfluous or of another shape.
    """
    state = network.state_dict()
    missing, extra = sorted(set(state) - set(shapes)), sorted(set(shapes) - set(state))
    if missing or extra:
        what = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r}, which the networks lack"
        raise StillmotionError(f"{where} {what}: weights and configuration do not belong together.")
    for name, value in state.items():
        if value.shape != tuple(shapes[name]):
            raise StillmotionError(
                f"{where}: {name!r} has the shape {tuple(shapes[name])} where the configuration asks for "
                f"{tuple(value.shape)}."
            )


def fill(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy stored tensors into a network.

    Raises:
        StillmotionError: as `check_shapes`, or integers where the network has fractions.
    """
    import torch

    check_shapes(network, {name: value.shape for name, value in tensors.items()}, where)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            copy_into(value, tensors[name], f"{where}: {name!r}")


def copy_into(target: Tensor, stored: Tensor, where: str) -> None:
    """Copy a stored tensor into one of the same shape; raises `StillmotionError` if one of them has whole numbers."""
    if stored.is_floating_point() != target.is_floating_point():
        raise StillmotionError(f"{where} holds {stored.dtype} where {target.dtype} belongs.")
    target.copy_(stored)


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors, by name, from its header alone.

    Raises:
        StillmotionError: as `load_tensors`, but for what the tensors hold.
    """
    _refuse_other_formats(path)
    shapes = {}
    with parsing(f"The file {path}"), safetensors.safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            shapes[name] = tuple(part.get_shape())
            if part.get_dtype() not in _KINDS:
                raise StillmotionError(
                    f"The tensor {name!r} in {path} is of the kind {part.get_dtype()}, not a usual one."
                )
            if len(shapes[name]) > _MOST_DIMENSIONS or max(shapes[name], default=0) > _MOST_LENGTH:
                raise StillmotionError(f"The tensor {name!r} in {path} has a shape that no memory holds.")
    return shapes


def check_digest(path: Path, sha256: str) -> None:
    """Compare a file of weights with its SHA-256, 64 hexadecimal digits.

    Raises:
        StillmotionError: the file cannot be read, no digest is given, or the file has another one.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StillmotionError(f"The weights {path} cannot be read ({error.strerror}).") from error
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise StillmotionError(
            f"Say which weights you mean by their SHA-256, {path}@DIGEST; this file's is {found}, which proves "
            "nothing until you compare it with what its publisher says."
        )
    if found != sha256:
        raise StillmotionError(f"{path} has the SHA-256 {found}, not {sha256}; get the file again.")


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read a safetensors file whose SHA-256 is known.

    Raises:
        StillmotionError: as `check_digest` and `load_tensors`.
    """
    check_digest(path, sha256)
    return load_tensors(path)


def weights_in(folder: str, *names: str) -> list[str]:
    """FILE@SHA256 of files in a folder that `stillmotion weights` made; its list has their digests.

    Raises:
        StillmotionError: there is no list, or it lacks a file.
    """
    listed = read_json(Path(folder) / WEIGHTS_LIST)
    if not isinstance(listed, dict) or not all(isinstance(listed.get(name), str) for name in names):
        raise StillmotionError(f"{Path(folder) / WEIGHTS_LIST} does not list {' and '.join(names)}: make it anew.")
    return [f"{Path(folder) / name}@{listed[name]}" for name in names]


def fill_from_file(network: nn.Module, weights: str, prefix: str) -> None:
    """Fill a network from FILE@SHA256, or a folder of `stillmotion weights`, with the names that begin with `prefix`.

    Raises:
        StillmotionError: as `read_weights`, `weights_in` and `fill`.
    """
    if Path(weights).is_dir():
        (weights,) = weights_in(weights, "trunk.safetensors")
    file, _, digest = weights.rpartition("@") if "@" in weights else (weights, "", "")
    tensors = read_weights(Path(file), digest.lower())
    fill(network, {name: value for name, value in tensors.items() if name.startswith(prefix)}, file)


def _refuse_other_formats(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(9)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise StillmotionError(f"The file {path} cannot be read ({error.strerror}).") from error
    # A safetensors file is the length of its header (8 bytes, little endian), then the header, a JSON object.
    # This is looked at first: by chance a length may begin with the very bytes of a pickle.
    if len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise StillmotionError(
            f"The file {path} is a pickle or zip file (an old torch checkpoint), which can run code when opened; "
            "only safetensors files are loaded."
        )
    raise StillmotionError(f"The file {path} is not a safetensors file, or it is cut short.")
