"""The environment variables of a candidate: no keys, no tokens, and the same on any machine."""

from __future__ import annotations

from collections.abc import Mapping
import os
import site
import sys

from optuna_llm.evaluate._job import Job
from optuna_llm.evaluate._limits import count_threads
from optuna_llm.evaluate._records import Scope
from optuna_llm.evaluate._visible import clean_path
from optuna_llm.evaluate._visible import list_libraries


_INHERITED = ("TZ", "SYSTEMROOT", "TEMP", "TMP")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS")


def make_environment(
    job: Job, home: str, result: str, scopes: Mapping[str, Scope]
) -> dict[str, str]:
    """All of the environment that a candidate gets.

    Args:
        job: The job, with the variables that the user wants it to have.
        home: The folder that it takes for its home.
        result: The file for its values.
        scopes: What each limit holds for.
    """
    variables = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    python = os.path.dirname(clean_path(sys.executable))
    variables |= {
        "PATH": os.pathsep.join([python, os.defpath]),
        "HOME": home,
        # A program means the same whatever the locale of whoever runs it.
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if job.inputs is not None:
        variables["OPTUNA_LLM_RESULT"] = result
    if site.ENABLE_USER_SITE:
        variables["PYTHONUSERBASE"] = site.getuserbase()
    if libraries := list_libraries():
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    threads = count_threads(job.limits)
    if threads < (os.cpu_count() or 1):
        variables |= dict.fromkeys(_THREADS, str(threads))
    if scopes.get("memory") == "process":
        # The C library would reserve 64 MB of address space for each thread.
        variables["MALLOC_ARENA_MAX"] = "2"
    return variables | dict(job.env)
