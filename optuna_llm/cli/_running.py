"""The command that evaluates enqueued trials."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import importlib
import importlib.util
from pathlib import Path
import signal
import sys
import time
import traceback
from types import ModuleType
from typing import Any

import click
import optuna
from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import Trial
from optuna.trial import TrialState

from optuna_llm._failures import explain_failures
from optuna_llm._quoting import clean_text
from optuna_llm._study.attributes import read_feedback
from optuna_llm._study.declarations import check_task
from optuna_llm._study.declarations import write_task
from optuna_llm.cli._opening import open_storage
from optuna_llm.cli._opening import open_study
from optuna_llm.cli._opening import print_json
from optuna_llm.cli._opening import take_json
from optuna_llm.cli._opening import take_study
from optuna_llm.cli._trials import StudyView


_PAUSE = 1.0
_DIRECTIONS = click.Choice(["minimize", "maximize"])


@click.command()
@take_study
@click.argument("objective")
@click.option(
    "--direction",
    "directions",
    type=_DIRECTIONS,
    multiple=True,
    help="Create the study if it is not there; once per objective.",
)
@click.option("--task", help="Tell the study what it is about.")
@click.option(
    "--watch", is_flag=True, help="Go on with what is enqueued later, until interrupted."
)
@take_json
def run(
    storage: str,
    name: str | None,
    objective: str,
    directions: tuple[str, ...],
    task: str | None,
    watch: bool,
    as_json: bool,
) -> None:
    """Evaluate the trials that are enqueued.

    OBJECTIVE is a function of a trial in a Python file, such as golf.py:objective, or in a module.
    A study without trials is given its first one: texts are then the initial ones, and numbers
    are drawn by Optuna's default sampler. Prints the results; a trial that fails is a result too.
    """
    function = explain_failures(_load(objective))
    study = _open_or_create(storage, name, directions, Path(objective.partition(":")[0]).stem)
    if task is not None:
        write_task(study, check_task(task))
    is_idle = True
    with _Watcher() if watch else contextlib.nullcontext() as watcher:
        for number in _evaluate(study, function, watcher):
            is_idle = False
            _print_result(study, number, as_json=as_json)
    if is_idle and not watch:
        click.echo("No trial is enqueued.", err=True)


class _Watcher:
    """Waits for further trials until the user interrupts.

    The first interrupt lets the trial that runs come to its end: Optuna would leave it RUNNING.

    Attributes:
        is_over: Whether the user has interrupted.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._former = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> _Watcher:
        signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._former)

    def pause(self) -> None:
        """Wait for a moment."""
        if not self.is_over:
            time.sleep(_PAUSE)

    def _interrupt(self, number: int, frame: object) -> None:
        if self.is_over:
            raise KeyboardInterrupt
        self.is_over = True
        click.echo("Ending with the trial that runs; interrupt again to break it off.", err=True)


def _load(target: str) -> Callable[[Trial], Any]:
    """The function that is named, as ``file.py:function`` or ``module:function``.

    Raises:
        BadParameter: If there is none.
    """
    where, _, name = target.rpartition(":")
    where, name = (where, name) if where else (name, "objective")
    is_file = where.endswith(".py")
    if is_file and not Path(where).is_file():
        raise click.BadParameter(f"There is no file {where}.", param_hint="OBJECTIVE")
    try:
        module = _import_file(Path(where).resolve()) if is_file else _import_module(where)
    except Exception:  # noqa: BLE001 - the user's own code, and whatever is wrong with it
        traceback.print_exc()
        raise click.ClickException(f"{where} cannot be imported.") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise click.BadParameter(f"{where} has no function {name!r}.", param_hint="OBJECTIVE")
    found: Callable[[Trial], Any] = function
    return found


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    """A file as a module, with the modules beside it at hand, as if it were run."""
    sys.path.insert(0, str(path.parent))
    # Under its own name, by which processes that it starts find it, unless another module has it.
    is_taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    name = f"_{path.stem}" if is_taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _open_or_create(
    address: str, name: str | None, directions: tuple[str, ...], default_name: str
) -> Study:
    if not directions:
        try:
            return open_study(address, name)
        except click.ClickException as error:
            hint = "Give --direction minimize or --direction maximize to create it."
            raise click.ClickException(f"{error.message} {hint}") from None
    storage = open_storage(address, create=True)
    names = optuna.get_all_study_names(storage)
    if name is None and names:
        study = open_study(address, None)
    else:
        study = optuna.create_study(
            study_name=name or default_name,
            storage=storage,
            directions=[StudyDirection[direction.upper()] for direction in directions],
            load_if_exists=True,
        )
    held = tuple(direction.name.lower() for direction in study.directions)
    if held != directions:
        raise click.ClickException(
            f"The study {study.study_name!r} is there, and is to {' and '.join(held)}."
        )
    return study


def _evaluate(
    study: Study, function: Callable[[Trial], Any], watcher: _Watcher | None
) -> Iterator[int]:
    """Evaluate what is enqueued, one after the other, and give the numbers.

    Args:
        study: The study.
        function: The objective.
        watcher: Waits for what is enqueued later; None to end when nothing is left.
    """
    seen: list[int] = []

    def note(_: Study, trial: optuna.trial.FrozenTrial) -> None:
        seen.append(trial.number)

    while True:
        trials = study.get_trials(deepcopy=False)
        if not trials or any(trial.state == TrialState.WAITING for trial in trials):
            study.optimize(function, n_trials=1, catch=(Exception,), callbacks=[note])
            yield from seen
            seen.clear()
        elif watcher is None:
            return
        else:
            watcher.pause()
        if watcher is not None and watcher.is_over:
            return


def _print_result(study: Study, number: int, *, as_json: bool) -> None:
    view = StudyView(study)
    trial = view.progress.trials[number]
    if as_json:
        print_json(view.trial_to_json(trial))
        return
    is_best = any(record.number == number for record in view.progress.improvements[1:])
    click.echo(f"trial {number}: {view.write_result(trial)}{', a new best' if is_best else ''}")
    if feedback := clean_text(read_feedback(trial)).strip():
        click.echo("  " + feedback.replace("\n", "\n  "))
