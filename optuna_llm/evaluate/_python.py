"""Running Python code that finds variables and leaves variables, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
import pickle
import sys
from typing import Any

from optuna_llm.evaluate import _transfer
from optuna_llm.evaluate._process import run_command
from optuna_llm.evaluate._records import Execution
from optuna_llm.evaluate._records import Limits
from optuna_llm.evaluate._sandbox import FOLDER
from optuna_llm.evaluate._sandbox import Sandbox


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
        env: See :func:`run_script`, as for the arguments that follow.
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
    here = Path(__file__).parent
    files = {
        "harness.py": (here / "_harness.py").read_bytes(),
        "_transfer.py": (here / "_transfer.py").read_bytes(),
        "program.py": code.encode("utf-8", "surrogateescape"),
        "inputs": _transfer.pack(dict(inputs or {}), dict((kept or Kept({})).objects), wanted),
    }
    execution, parcel = run_command(
        [sys.executable, f"{FOLDER}/harness.py"],
        files,
        timeout=timeout,
        limits=limits,
        sandbox=sandbox,
        network=network,
        env=env,
    )
    fields = vars(execution)
    if not execution.ok:
        return PythonExecution(**fields)
    failure = PythonExecution(**fields | {"returncode": 1})
    if len(parcel) > limits.result:
        return replace(failure, stderr=f"The values take more than {limits.result:,} bytes.")
    try:
        values, objects, _ = _transfer.unpack(parcel)
    except ValueError:
        return replace(failure, stderr="The program ended before it could hand back its values.")
    if set(outputs) - values.keys() or set(wanted["keep"]) - objects.keys():
        return replace(failure, stderr="The program handed back other values than asked for.")
    opened = {name: pickle.loads(objects.pop(name)) for name in unpickle_unsafely}
    return PythonExecution(
        **fields, values={n: values[n] for n in outputs} | opened, kept=Kept(objects)
    )
