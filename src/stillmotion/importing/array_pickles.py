"""Arrays out of a pickle that holds nothing but dicts of numpy arrays, without unpickling.

A pickle is a program for a small stack machine, which may call any function. Here its instructions are interpreted:
those that build dicts, tuples, numbers, strings and numpy arrays are followed, and every other is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Mapping
from typing import Any

import numpy as np

from stillmotion.files import parsing

_ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_TYPE, _CLASS = "numpy dtype", "numpy ndarray"
_VALUES = frozenset(
    [
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BININT",
        "BININT1",
        "BININT2",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
    ]
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_FLOATS = ("f4", "f2", "f8")
_MARK = object()


class _Built:
    """What a call of an allowed function gives: an array or its type, and later its state."""

    def __init__(self, function: str, arguments: tuple[Any, ...]):
        self.function, self.arguments = function, arguments
        self.state: tuple[Any, ...] = ()


def read_arrays(content: bytes, what: str) -> dict[str, np.ndarray]:
    """The arrays by their path in the dicts, `block/layer/name`.

    Args:
        content: of the file.
        what: its name, for messages.

    Raises:
        StillmotionError: it is damaged, or holds anything but dicts of arrays of floating-point numbers.
    """
    with parsing(what, "take the published one"):
        return dict(_flat(_interpret(content), ()))


def _interpret(content: bytes) -> Any:
    """The object that a pickle builds, with `_Built` in the places of arrays."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for instruction, argument, _ in pickletools.genops(content):
        name = instruction.name
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name not in ("PROTO", "STOP") and not _put(name, argument, stack) and not _build(name, argument, stack):
            raise ValueError(f"it wants {name} {argument if isinstance(argument, str) else ''}".strip())
    return stack.pop()


def _put(name: str, argument: Any, stack: list[Any]) -> bool:
    """Follow an instruction that puts a value or a tuple on the stack; False for another one."""
    if name in _VALUES:
        stack.append(_CONSTANTS.get(name, argument))
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name in _TUPLES:
        stack.append(tuple(stack.pop() for _ in range(_TUPLES[name]))[::-1])
    elif name == "TUPLE":
        stack.append(tuple(_to_mark(stack)))
    else:
        return False
    return True


def _build(name: str, argument: Any, stack: list[Any]) -> bool:
    """Follow an instruction that fills a dict or describes an array; False for another one."""
    if name in ("SETITEM", "SETITEMS"):
        pairs = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else _to_mark(stack)
        stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
    elif name == "GLOBAL" and argument in (*_ARRAY, _TYPE, _CLASS):
        stack.append(argument)
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_Built(function, arguments))
    elif name == "BUILD":
        state = stack.pop()
        stack[-1].state = state
    else:
        return False
    return True


def _to_mark(stack: list[Any]) -> list[Any]:
    """Take everything above the last mark off, and the mark."""
    at = len(stack) - 1 - stack[::-1].index(_MARK)
    taken = stack[at + 1 :]
    del stack[at:]
    return taken


def _flat(value: Any, path: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    if isinstance(value, Mapping):
        return [found for key, entry in value.items() for found in _flat(entry, (*path, str(key)))]
    return [("/".join(path), _array(value))]


def _array(built: _Built) -> np.ndarray:
    """The array that numpy would make of the state: (version, shape, type, by columns, bytes)."""
    if built.function not in _ARRAY:
        raise ValueError(f"it holds a {type(built).__name__} where an array was expected")
    _, shape, kind, by_columns, content = built.state
    if kind.function != _TYPE or kind.arguments[0] not in _FLOATS or kind.state[1] != "<":
        raise ValueError("an array is not of little-endian floating-point numbers")
    values = np.frombuffer(content, f"<{kind.arguments[0]}")
    return values.reshape(shape, order="F" if by_columns else "C")
