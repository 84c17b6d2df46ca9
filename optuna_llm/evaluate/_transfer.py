"""Values between two processes as data: JSON types and numpy arrays, never code.

Used on both sides; the candidate's side has nothing but the standard library at hand, and numpy.
A parcel is a line of JSON that says what follows, then the bytes of the arrays and objects.
"""

from __future__ import annotations

import json
import math
import sys


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # Its import would cost each candidate 2 milliseconds.


_KINDS = "biufcSUmM"


def pack(values: dict[str, Any], objects: dict[str, bytes], note: dict[str, Any]) -> bytes:
    """Make a parcel.

    Args:
        values: Name to value: JSON types, numpy arrays and numbers.
        objects: Name to bytes that are handed on unread.
        note: Further JSON.

    Raises:
        TypeError: If a value is neither JSON nor an array, by name.
    """
    plain: dict[str, Any] = {}
    arrays: list[list[Any]] = []
    blobs: list[bytes] = []
    for name, value in values.items():
        if is_array(value):
            if value.dtype.kind not in _KINDS:
                raise TypeError(
                    f"{name!r} is an array of {value.dtype}: numbers or text it must be."
                )
            data = value.tobytes()
            arrays.append([name, value.dtype.str, list(value.shape), len(data)])
            blobs.append(data)
        else:
            plain[name] = _plain(name, value)
    head = {
        "plain": plain,
        "arrays": arrays,
        "objects": [[name, len(data)] for name, data in objects.items()],
        "note": note,
    }
    return json.dumps(head).encode() + b"\n" + b"".join([*blobs, *objects.values()])


def unpack(parcel: bytes) -> tuple[dict[str, Any], dict[str, bytes], dict[str, Any]]:
    """Open a parcel of whoever: values, objects as bytes, and the note.

    Raises:
        ValueError: If it is none, or damaged.
    """
    try:
        line, _, rest = parcel.partition(b"\n")
        head = json.loads(line)
        values = dict(head["plain"])
        position = 0
        for name, dtype, shape, size in head["arrays"]:
            values[str(name)] = _read_array(dtype, shape, rest[position : position + size])
            position += size
        objects = {}
        for name, size in head["objects"]:
            objects[str(name)] = rest[position : position + size]
            position += size
        return values, objects, dict(head["note"])
    except (LookupError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"This is no parcel of values: {error}.") from error


def is_array(value: Any) -> bool:
    """Whether it is a numpy array; without loading numpy for a value that cannot be one."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _read_array(dtype: str, shape: list[int], data: bytes) -> Any:
    import numpy

    kind = numpy.dtype(dtype)
    if kind.kind not in _KINDS or math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"array of {dtype} in {len(data)} bytes")
    return numpy.frombuffer(data, kind).reshape(shape).copy()


def _plain(name: str, value: Any) -> Any:
    """The value in JSON types, numpy's numbers among them as Python's."""
    if type(value).__module__ == "numpy" and hasattr(value, "item") and not is_array(value):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{name!r} is a dict with keys that are no strings.")
        return {key: _plain(name, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, inner) for inner in value]
    raise TypeError(
        f"{name!r} is a {type(value).__name__}: what passes is None, bool, int, float, str, "
        "lists and dicts of these, and numpy arrays by themselves."
    )
