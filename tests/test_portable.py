"""The package without what only POSIX has.

This shows on any machine that nothing of it is needed to import the package and to run a study. It
does not replace a run on Windows.
"""

from __future__ import annotations

import subprocess
import sys

import pytest


WITHOUT_POSIX = """\
import asyncio, concurrent.futures, importlib, multiprocessing.util, os, pkgutil, signal, sys, uuid
# What others import is theirs: they decide by sys.platform, which stays as it is.
import click, openai, optuna, optuna_dashboard, plotly.graph_objects, rich.console

MODULES = "fcntl grp pty pwd resource syslog termios tty".split()
NAMES = {
    os: "fchown fork forkpty getegid geteuid getgid getloadavg getpgid getpgrp getsid getuid "
    "initgroups killpg mkfifo nice openpty pidfd_open pread pwrite register_at_fork "
    "sched_getaffinity setpgid setsid statvfs sysconf uname wait wait3 wait4 waitid "
    "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK P_PID WEXITED WNOHANG WNOWAIT "
    "WEXITSTATUS WIFSIGNALED WTERMSIG",
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 SIGXCPU "
    "alarm pause pidfd_send_signal pthread_kill pthread_sigmask setitimer sigwait",
}
sys.modules.update(dict.fromkeys(MODULES))
for module, names in NAMES.items():
    for name in names.split():
        vars(module).pop(name, None)

import optuna_llm

n_modules = 0
for module in pkgutil.walk_packages(optuna_llm.__path__, "optuna_llm."):
    # litellm and DSPy are no dependencies of the tests.
    if not module.name.startswith(("optuna_llm.models._litellm", "optuna_llm.integrations.")):
        importlib.import_module(module.name)
        n_modules += 1

def objective(trial):
    text = optuna_llm.suggest_text(trial, "text", "hello", description="A greeting.")
    return trial.suggest_float("x", 0, 1) + len(text)

sampler = optuna_llm.LLMSampler(model="offline")
study = optuna.create_study(sampler=sampler)
study.optimize(objective, n_trials=3)
print(n_modules, *[trial.state.name for trial in study.trials])
"""


@pytest.mark.slow  # It loads every dependency.
def test_the_package_imports_and_runs_where_posix_is_missing() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    n_modules, *states = run.stdout.split()
    assert int(n_modules) > 100
    assert states == ["COMPLETE"] * 3
