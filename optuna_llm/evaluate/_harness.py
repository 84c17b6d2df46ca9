"""Runs a program in the process that the launcher has prepared, as a script or with variables.

It spares the candidate a second start of Python. Nothing it does is trusted by the other side,
since the candidate can change all of it. It imports little, since every candidate waits for it.
"""

from __future__ import annotations

import builtins
from importlib.machinery import SourceFileLoader
import os
import sys
from types import ModuleType


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def run(path: str, inputs: str = "", result: str = "") -> None:
    """Run a program and leave; the exit code says whether it came to its end.

    Args:
        path: The program.
        inputs: The file with the variables it is given, and the names of those it is to leave;
            empty where there are none, so that it is a script like any other.
        result: The file for these.
    """
    # Exits as a script does: its threads are waited for, and its exit handlers run.
    program = ModuleType("__main__")
    if not inputs:
        sys.exit(_run(program, path, {}, {}))
    import transfer  # type: ignore[import-not-found]

    with open(inputs, "rb") as file:
        values, objects, wanted = transfer.unpack(file.read())
    status = _run(program, path, values, objects)
    sys.exit(status or _hand_back(vars(program), wanted, result, transfer.pack))


def _run(program: ModuleType, path: str, values: dict[str, Any], objects: dict[str, bytes]) -> int:
    """The exit code of a program that is run as a main module."""
    with open(path, "rb") as file:
        source = file.read()
    # As `python program.py` would have it.
    for name in ("transfer", "harness"):
        sys.modules.pop(name, None)
    sys.argv[:] = [path]
    sys.path[0] = os.path.dirname(path)
    program.__file__ = path
    program.__loader__ = SourceFileLoader("__main__", path)
    vars(program).update(__builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = program
    try:
        if objects:
            import pickle

            vars(program).update({name: pickle.loads(data) for name, data in objects.items()})
        vars(program).update(values)
        exec(compile(source, path, "exec", dont_inherit=True), vars(program))
    except SystemExit as error:
        if error.code:
            return _exit_status(error.code)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        _tell(error, path)
        return 1
    return 0


def _exit_status(code: object) -> int:
    """The exit code of a program that calls ``sys.exit(code)``."""
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _hand_back(
    names: dict[str, Any], wanted: dict[str, Any], result: str, pack: Callable[..., bytes]
) -> int:
    missing = [n for n in [*wanted["outputs"], *wanted["keep"]] if n not in names]
    if missing:
        sys.stderr.write(f"NameError: the program left no variable {missing[0]!r}\n")
        return 1
    try:
        values = {name: names[name] for name in wanted["outputs"]}
        kept = {name: _pickle(names[name]) for name in wanted["keep"]}
        parcel = pack(values, kept, {})
        sys.stdout.flush()
        with open(result, "wb") as file:
            file.write(parcel)
    except Exception as error:  # noqa: BLE001 - an object's own code may run here
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def _pickle(value: Any) -> bytes:
    """The object with the classes and functions that the program itself defines."""
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        import pickle

        return pickle.dumps(value)
    data: bytes = cloudpickle.dumps(value)
    return data


def _tell(error: BaseException, path: str) -> None:
    """Tell of an error from the candidate's own first line on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != path:
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)
