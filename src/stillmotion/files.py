"""Files that are either whole or absent: tensors as safetensors, everything else as JSON, never pickle.

Everything is written beside its final place, synced to the disk and renamed into place, so a crash, a `kill -9` or a
full disk leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import safetensors
import safetensors.torch
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from stillmotion.errors import StillmotionError

Settings = TypeVar("Settings")

_TEMPORARY, _REPLACED = ".tmp-", ".old-"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a `StillmotionError` about `path` in place of any `OSError` from the `with` block."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space and try again"
        else:
            reason = f"{error.strerror or error}; check the folder and its permissions"
        raise StillmotionError(f"{path} could not be written: {reason} (nothing that was there is lost).") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: it holds the old content or the new, never a part of either.

    Raises:
        StillmotionError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    temporary = path.parent / f"{_TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}"
    with writing(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


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
        if len(content) > most_bytes:
            raise StillmotionError(f"The file {path} is larger than {most_bytes} bytes.")
        return json.loads(content)
    except FileNotFoundError as error:
        raise StillmotionError(f"The file {path} does not exist.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StillmotionError(f"The file {path} is not readable JSON ({error}).") from error


STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""For dataclasses of settings: unknown fields, NaN and infinity are refused; text that spells a number is one."""


def parse_settings(settings_class: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Make a dataclass of settings from plain values, nested as its fields are.

    Raises:
        StillmotionError: an unknown field (names the nearest known one), or a value of the wrong kind or outside its
            range; begins with `where`.
    """
    try:
        return TypeAdapter(settings_class).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            known = setting_names(settings_class)
            raise StillmotionError(f"{where}: {unknown_setting(name, known)}") from error
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
            name is named as such and never opened), or holds NaN or infinity.
    """
    _refuse_other_formats(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise StillmotionError(f"The file {path} is damaged or cut short ({error}); get it again.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise StillmotionError(f"The tensor {name!r} in {path} holds NaN or infinity; it cannot be used.")
    return tensors


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


@torch.no_grad()
def fill(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy stored tensors into a network.

    Raises:
        StillmotionError: as `check_shapes`.
    """
    check_shapes(network, {name: value.shape for name, value in tensors.items()}, where)
    for name, value in network.state_dict().items():
        value.copy_(tensors[name])


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors, by name, from its header alone.

    Raises:
        StillmotionError: as `load_tensors`, but for what the tensors hold.
    """
    _refuse_other_formats(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise StillmotionError(f"The file {path} is damaged or cut short ({error}); get it again.") from error


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


def fill_from_file(network: nn.Module, weights: str, prefix: str) -> None:
    """Fill a network from FILE.safetensors@SHA256 with the tensors whose names begin with `prefix`.

    Raises:
        StillmotionError: as `read_weights` and `fill`.
    """
    file, _, digest = weights.rpartition("@")
    tensors = read_weights(Path(file), digest.lower())
    fill(network, {name: value for name, value in tensors.items() if name.startswith(prefix)}, file)


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Write a folder atomically.

    Yields an empty folder beside `final`. When the block ends without an exception, the folder replaces `final`; on
    an exception it is removed and `final` stays as it was.
    """
    temporary = final.parent / f"{_TEMPORARY}{final.name}-{uuid.uuid4().hex[:8]}"
    with writing(final):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _replace_folder(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _replace_folder(temporary: Path, final: Path) -> None:
    """Sync a finished folder and rename it to `final`; a folder that was there is removed afterwards.

    Not every system can swap two folders in one call, so the old one is renamed first; `remove_stale` undoes that if
    the process ends between the two renames.
    """
    for path in sorted(temporary.rglob("*")):
        if path.is_file():
            _sync(path)
        else:
            _sync_folder(path)
    _sync_folder(temporary)
    old = final.parent / f"{_REPLACED}{final.name}"
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    temporary.rename(final)
    _sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_stale(folder: Path) -> None:
    """Remove the temporary files and folders of killed processes from `folder`; no process may be writing there."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith(_REPLACED) and not (final := folder / path.name[len(_REPLACED) :]).exists():
            path.rename(final)
        elif path.name.startswith((_TEMPORARY, _REPLACED)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename is durable by itself
        _sync(path)
