"""Runs in the candidate's process: gives its code variables, and takes variables back.

A program of its own, copied beside the candidate together with ``_transfer.py``. Nothing it does
is trusted by the other side, since the candidate can change all of it. It imports little, since
every candidate waits for it.
"""

from __future__ import annotations

import builtins
from importlib.machinery import SourceFileLoader
import os
import sys
from types import ModuleType

import _transfer  # type: ignore[import-not-found]


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(path: str, inputs: str, result: str) -> None:
    """Run a program and leave; the exit code says whether it came to its end.

    Args:
        path: The program.
        inputs: The file with the variables it is given, and the names of those it is to leave.
        result: The file for these.
    """
    # Exits as a script does: its threads are waited for, and its exit handlers run.
    sys.exit(_run(path, inputs, result))


def _run(path: str, inputs: str, result: str) -> int:
    with open(inputs, "rb") as file:
        values, objects, wanted = _transfer.unpack(file.read())
    with open(path, "rb") as file:
        source = file.read()
    for name in ("_transfer", "harness"):
        sys.modules.pop(name, None)
    # As `python program.py` would have it.
    sys.argv[:] = [path]
    sys.path[0] = os.path.dirname(path)
    program = ModuleType("__main__")
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
    return _hand_back(vars(program), wanted, result)


def _exit_status(code: object) -> int:
    """The exit code of a program that calls ``sys.exit(code)``."""
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _hand_back(names: dict[str, Any], wanted: dict[str, Any], result: str) -> int:
    missing = [n for n in [*wanted["outputs"], *wanted["keep"]] if n not in names]
    if missing:
        sys.stderr.write(f"NameError: the program left no variable {missing[0]!r}\n")
        return 1
    try:
        values = {name: names[name] for name in wanted["outputs"]}
        kept = {name: _pickle(names[name]) for name in wanted["keep"]}
        parcel = _transfer.pack(values, kept, {})
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
    """Print the traceback from the candidate's own first line on."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != path:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
