"""Runs in the candidate's process: gives its code variables, and takes variables back.

A program of its own, copied beside the candidate together with ``_transfer.py``. Nothing it does
is trusted by the other side, since the candidate can change all of it. It imports little, for each
candidate waits for it.
"""

from __future__ import annotations

import os
import pickle
import sys
from types import ModuleType

import _transfer  # type: ignore[import-not-found]


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "program.py"


def main() -> int:
    """Run the program; the exit code says whether it came to its end."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.remove(here)
    with open(os.path.join(here, "inputs"), "rb") as file:
        inputs, objects, wanted = _transfer.unpack(file.read())
    with open(os.path.join(here, FILE), encoding="utf-8", errors="surrogateescape") as file:
        source = file.read()
    # A main module of its own, where its classes are found by their names, and ours are not.
    sys.modules["__main__"] = program = ModuleType("__main__")
    try:
        vars(program).update({name: pickle.loads(data) for name, data in objects.items()})
        vars(program).update(inputs)
        exec(compile(source, FILE, "exec"), vars(program))
    except SystemExit as error:
        if error.code:
            raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        _tell(error, source)
        return 1
    return _hand_back(vars(program), wanted)


def _hand_back(names: dict[str, Any], wanted: dict[str, Any]) -> int:
    missing = [n for n in [*wanted["outputs"], *wanted["keep"]] if n not in names]
    if missing:
        sys.stderr.write(f"NameError: the program left no variable {missing[0]!r}\n")
        return 1
    try:
        values = {name: names[name] for name in wanted["outputs"]}
        kept = {name: _pickle(names[name]) for name in wanted["keep"]}
        parcel = _transfer.pack(values, kept, {"done": True})
    except Exception as error:  # noqa: BLE001 - an object's own code may run here
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.flush()
    with open(os.environ["OPTUNA_LLM_RESULT"], "wb") as file:
        file.write(parcel)
    return 0


def _pickle(value: Any) -> bytes:
    """The object with the classes and functions that the program itself defines."""
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return pickle.dumps(value)
    data: bytes = cloudpickle.dumps(value)
    return data


def _tell(error: BaseException, source: str) -> None:
    """The traceback from the candidate's own first line on."""
    import linecache
    import traceback

    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != FILE:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads and exit handlers that the candidate has left behind are not waited for.
    os._exit(status)
