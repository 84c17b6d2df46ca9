"""Running Python code that finds variables and leaves variables, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
import os
import pickle
from typing import Any

from optuna_llm.evaluate._job import check_files
from optuna_llm.evaluate._job import encode
from optuna_llm.evaluate._job import Files
from optuna_llm.evaluate._job import Job
from optuna_llm.evaluate._job import Sandbox
from optuna_llm.evaluate._process import run_job
from optuna_llm.evaluate._records import Execution
from optuna_llm.evaluate._records import Limits
from optuna_llm.evaluate._transfer import pack
from optuna_llm.evaluate._transfer import unpack


@dataclass(frozen=True)
class Kept:
    """Objects that a program left, for a further program only: they are not opened here.

    To open them is to run the candidate's code.
    """

    objects: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True)
class PythonExecution(Execution):
    """How Python code ran, and what it left.

    Attributes:
        values: The outputs by name; empty where the code did not come to its end.
        kept: The objects to go on with in a further run.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    kept: Kept = field(default_factory=lambda: Kept({}))


def run_python(
    code: str,
    *,
    timeout: float,
    inputs: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = (),
    keep: Sequence[str] = (),
    kept: Kept | None = None,
    unpickle_unsafely: Sequence[str] = (),
    files: Files | str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    sandbox: Sandbox = "auto",
    network: bool = False,
) -> PythonExecution:
    """Run Python code in a process of its own, with variables given to it and taken back.

    What comes back is data. Objects, such as a fitted estimator, stay closed and can be handed
    to a second run, which gets inputs that the first never saw. So the labels that decide the
    score never enter a process in which the candidate's code runs:

    .. code-block:: python

        fitted = run_python(code, inputs={"X": X, "y": y}, keep=["clf"], timeout=60)
        tested = run_python("found = clf.predict(X)", inputs={"X": X_test}, kept=fitted.kept,
                            outputs=["found"], timeout=60)
        accuracy = (tested.values["found"] == y_test).mean()

    Args:
        code: The code.
        timeout: Seconds of wall time after which it is stopped.
        inputs: Variables that it finds: JSON types and numpy arrays.
        outputs: Names of variables that it leaves, brought back as JSON types or numpy arrays.
        keep: Names of variables that it leaves, of any type that pickles, to be handed on.
        kept: What an earlier run kept; its objects are variables here.
        unpickle_unsafely: Names of variables that it leaves, brought back as objects. DANGER:
            to unpickle is to run the candidate's code in this process, with your files, keys
            and network. For code that you have written yourself.
        files: What it finds beside itself; see :func:`run_script`, as for what follows.
        env: Environment variables for it.
        limits: The limits.
        sandbox: The sandbox.
        network: Whether the network may be used.

    Returns:
        How it ran. A failure is no exception, but a value with words for the model: a code that
        raises, leaves a variable out or leaves one that is no data has an exit code of 1.

    Raises:
        TypeError: If an input is neither a JSON type nor a numpy array.
        SandboxError: If a sandbox is required and there is none.
        ValueError: If an argument cannot be right.
    """
    limits = limits or Limits()
    wanted = {"outputs": list(outputs), "keep": [*keep, *unpickle_unsafely]}
    job = Job(
        program=encode("code", code),
        interpreter=(),
        timeout=timeout,
        limits=limits,
        sandbox=sandbox,
        network=network,
        files=check_files(files),
        env=dict(env or {}),
        inputs=pack(dict(inputs or {}), dict((kept or Kept({})).objects), wanted),
    )
    execution, parcel = run_job(job)
    fields = vars(execution)
    if not execution.ok:
        return PythonExecution(**fields)
    try:
        values, objects = _open_parcel(parcel, wanted, limits.result)
        opened = {name: _unpickle(name, objects.pop(name)) for name in unpickle_unsafely}
    except ValueError as error:
        said = f"{execution.stderr.rstrip()}\n{error}\n".lstrip()
        return PythonExecution(**fields | {"returncode": 1, "stderr": said})
    return PythonExecution(**fields, values=values | opened, kept=Kept(objects))


def _open_parcel(
    parcel: bytes, wanted: Mapping[str, Sequence[str]], limit: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The values and objects that a program was asked for, from what it has left.

    Raises:
        ValueError: If it has left something else, in words for the model.
    """
    if len(parcel) > limit:
        raise ValueError(f"The values take more than {limit:,} bytes.")
    if not parcel:
        raise ValueError("The program ended before it could hand back its values.")
    try:
        values, objects, _ = unpack(parcel, limit=limit)
    except ValueError as error:
        raise ValueError(f"The program could not hand back its values: {error}") from error
    if set(wanted["outputs"]) - values.keys() or set(wanted["keep"]) - objects.keys():
        raise ValueError("The program did not hand back the values that were asked for.")
    return (
        {name: values[name] for name in wanted["outputs"]},
        {name: objects[name] for name in wanted["keep"]},
    )


def _unpickle(name: str, data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:
        raise ValueError(f"{name!r} could not be unpickled: {error!r}.") from error
