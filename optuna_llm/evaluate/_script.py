"""Running a program that a model wrote."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import os
import sys

from optuna_llm.evaluate._job import check_files
from optuna_llm.evaluate._job import encode
from optuna_llm.evaluate._job import Files
from optuna_llm.evaluate._job import Job
from optuna_llm.evaluate._job import Sandbox
from optuna_llm.evaluate._process import run_job
from optuna_llm.evaluate._records import Execution
from optuna_llm.evaluate._records import Limits


def run_script(
    code: str,
    *,
    timeout: float,
    stdin: str = "",
    interpreter: Sequence[str] = (sys.executable,),
    files: Files | str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    sandbox: Sandbox = "auto",
    network: bool = False,
) -> Execution:
    """Run a program in a process of its own, as code that is not trusted.

    .. code-block:: python

        execution = run_script("print(6 * 7)", timeout=10, sandbox="require")
        assert execution.ok and int(execution.stdout) == 42

    Where bubblewrap is installed, the program has no network and sees this Python, its packages
    and the system's programs, read-only, but none of your files. It starts in a private folder,
    and ends with all that it has started. It inherits no environment variable but that of the
    time zone, and runs in UTF-8.

    Args:
        code: The program.
        timeout: Seconds of wall time after which it is stopped.
        stdin: What it reads from standard input.
        interpreter: The command that runs it; this Python by default.
        files: What it finds beside itself, read-only: relative path to content (``str`` or
            ``bytes``) or to a file or folder of yours; or one folder of yours, for all that is in
            it. A module is given as ``{"helper.py": Path("helper.py")}``.
        env: Environment variables for it. The program can read them.
        limits: What else it may use; the default is ``Limits()``.
        sandbox: "auto" uses bubblewrap where it works, else limits only, and then warns once;
            "require" raises where it does not, or cannot do all that it should; "container" says
            that this process runs in a container that is containment enough; "none" means limits
            only, without a warning. Limits only are no sandbox: the program can read what this
            user can.
        network: Whether it may use the network, this machine's own servers included.

    Returns:
        How it ran. A failure is not an exception, but a value with words for the model.

    Raises:
        SandboxError: If a sandbox is required and there is none.
        ValueError: If an argument cannot be right.
    """
    if not interpreter:
        raise ValueError("interpreter must name a command.")
    # This Python is started anyway, to set the limits, and goes on with the program.
    own = tuple(interpreter) == (sys.executable,)
    job = Job(
        program=encode("code", code),
        interpreter=() if own else tuple(interpreter),
        timeout=timeout,
        limits=limits or Limits(),
        sandbox=sandbox,
        network=network,
        files=check_files(files),
        env=dict(env or {}),
        stdin=encode("stdin", stdin),
    )
    execution, _ = run_job(job)
    return execution
