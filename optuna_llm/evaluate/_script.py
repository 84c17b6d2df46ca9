"""Running a program that a model wrote."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import sys

from optuna_llm.evaluate._process import run_command
from optuna_llm.evaluate._records import Execution
from optuna_llm.evaluate._records import Limits
from optuna_llm.evaluate._sandbox import FOLDER
from optuna_llm.evaluate._sandbox import Sandbox


def run_script(
    code: str,
    *,
    timeout: float,
    stdin: str = "",
    interpreter: Sequence[str] = (sys.executable,),
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    sandbox: Sandbox = "auto",
    network: bool = False,
) -> Execution:
    """Run a program in a process of its own, as a stranger's.

    .. code-block:: python

        execution = run_script("print(6 * 7)", timeout=10, sandbox="require")
        assert execution.ok and int(execution.stdout) == 42

    Where bubblewrap is installed, the program has no network, sees the file system read-only and
    without the user's files, has a private ``/tmp`` to work in, and ends with all that it has
    started. It inherits no environment variable but those of language and time zone.

    Args:
        code: The program.
        timeout: Seconds of wall time after which it is stopped.
        stdin: What it reads from standard input.
        interpreter: What runs it; this Python by default.
        env: Environment variables for it. What stands here the model's program can read.
        limits: What else it may use; the default is ``Limits()``.
        sandbox: "auto" uses bubblewrap where it works, else limits only, and then warns once;
            "require" raises where it does not; "container" says that this process runs in a
            container that is containment enough; "none" means limits only, without a warning.
            Limits only are no sandbox: the program can read what this user can.
        network: Whether it may use the network, this machine's own servers included.

    Returns:
        How it ran. A failure is no exception, but a value with words for the model.

    Raises:
        SandboxError: If a sandbox is required and there is none.
        ValueError: If an argument cannot be right.
    """
    execution, _ = run_command(
        [*interpreter, f"{FOLDER}/program.py"],
        {"program.py": code.encode("utf-8", "surrogatepass")},
        timeout=timeout,
        limits=limits or Limits(),
        sandbox=sandbox,
        network=network,
        env=env,
        stdin=stdin,
    )
    return execution
