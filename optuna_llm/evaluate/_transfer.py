"""Values between two processes as data: JSON types and numpy arrays, never code.

Used on both sides; the candidate's side has nothing but the standard library at hand, and numpy.
A parcel is a line of JSON that says what follows: values in JSON, then the bytes of arrays and of
objects. Whoever opens one trusts nothing in it: each size is checked before it
is used.
"""

from __future__ import annotations

import json
import math
import re
import sys


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # Its import would cost each candidate 2 milliseconds.


# Not compiled before it is used, since that costs each candidate a millisecond.
_DTYPE = (
    r"[<>|](b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|S[0-9]{1,9}|U[0-9]{1,9}"
    r"|[mM]8(\[[0-9]{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)
_MAX_HEAD = 1_000_000
_MAX_DIMENSIONS = 32
_MAX_DIGITS = 4_300
# A value within a list or dict takes about this many bytes at most, however short its JSON.
_NODE_BYTES = 100
_FEW_NODES = 10_000


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
            if not re.fullmatch(_DTYPE, value.dtype.str):
                raise TypeError(
                    f"{name!r} is an array of {value.dtype}; only arrays of numbers, booleans, "
                    "text, dates and durations can be passed."
                )
            data = value.tobytes()
            arrays.append([name, value.dtype.str, list(value.shape), len(data)])
            blobs.append(data)
        else:
            plain[name] = _plain(name, value)
    body = json.dumps([plain, note]).encode()
    head = {
        "plain": len(body),
        "arrays": arrays,
        "objects": [[name, len(data)] for name, data in objects.items()],
    }
    return json.dumps(head).encode() + b"\n" + b"".join([body, *blobs, *objects.values()])


def unpack(
    parcel: bytes, *, limit: int | None = None
) -> tuple[dict[str, Any], dict[str, bytes], dict[str, Any]]:
    """Open a parcel from anyone: values, objects as bytes, and the note.

    Args:
        parcel: The parcel.
        limit: Bytes that lists and dicts may take here, roughly; None for a parcel of our own.

    Raises:
        ValueError: If it is not a parcel, is damaged, or would take more memory than allowed.
    """
    try:
        end = parcel.index(b"\n", 0, _MAX_HEAD)
        head = _parse(parcel[:end], None)
        rest = memoryview(parcel)[end + 1 :]
        sizes = [head["plain"], *(a[3] for a in head["arrays"]), *(o[1] for o in head["objects"])]
        if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) != len(rest):
            raise ValueError("the sizes of its parts do not add up")
        parts = []
        for size in sizes:
            parts.append(rest[:size])
            rest = rest[size:]
        plain, note = _parse(bytes(parts.pop(0)), limit)
        values = dict(plain)
        for name, dtype, shape, _ in head["arrays"]:
            values[str(name)] = _read_array(dtype, shape, parts.pop(0))
        objects = {str(name): bytes(parts.pop(0)) for name, _ in head["objects"]}
        return values, objects, dict(note)
    except (LookupError, TypeError, ValueError, RecursionError, ImportError) as error:
        raise ValueError(f"This is not a parcel of values: {error}.") from error
    except MemoryError:
        raise ValueError("The values do not fit into memory.") from None


def is_array(value: Any) -> bool:
    """Whether it is a numpy array; without loading numpy for a value that cannot be one."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _parse(data: bytes, limit: int | None) -> Any:
    """Parse JSON that becomes no more objects than fit into so many bytes."""
    if limit is not None:
        # What is outside of strings: in valid JSON a backslash is within one.
        bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
        allowed = max(_FEW_NODES, limit // _NODE_BYTES)
        # Splitting makes an object per quote, so these are counted first.
        nodes = bare.count(b'"') // 2
        if nodes <= allowed:
            outside = b"".join(bare.split(b'"')[::2])
            nodes = sum(map(outside.count, (b"[", b"{", b",", b":")))
        if nodes > allowed:
            raise ValueError(f"lists and dicts hold more than {allowed:,} values: pass an array")
    return json.loads(data, parse_int=_parse_int, parse_float=_parse_float)


def _parse_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _parse_float(digits: str) -> float:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return float(digits)


def _read_array(dtype: object, shape: object, data: memoryview) -> Any:
    import numpy

    if not isinstance(dtype, str) or not re.fullmatch(_DTYPE, dtype):
        raise ValueError(f"an array of {dtype!r:.50}")
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"an array of more than {_MAX_DIMENSIONS} dimensions")
    if not all(type(length) is int and 0 <= length < 2**62 for length in shape):
        raise ValueError("an array whose lengths are not whole numbers")
    kind = numpy.dtype(dtype)
    if math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"an array of {dtype} in {len(data)} bytes")
    array = numpy.empty(shape, kind)
    if data:
        array.reshape(-1).view("V1")[:] = numpy.frombuffer(data, "V1")
        # Bytes that stand for no boolean or character are trouble for whoever reads them.
        if kind.kind == "b" and array.view("u1").max() > 1:
            raise ValueError("an array of booleans that are none")
        if kind.kind == "U" and array.reshape(-1).view(kind.byteorder + "u4").max() > 0x10FFFF:
            raise ValueError("an array of characters that are none")
    return array


def _plain(name: str, value: Any) -> Any:
    """The value in JSON types, with numpy's numbers as Python's."""
    if type(value).__module__ == "numpy" and hasattr(value, "item") and not is_array(value):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{name!r} is a dict with keys that are not strings.")
        return {key: _plain(name, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, inner) for inner in value]
    raise TypeError(
        f"{name!r} is a {type(value).__name__}; only None, bool, int, float, str, lists and dicts "
        "of these, and numpy arrays on their own can be passed."
    )
