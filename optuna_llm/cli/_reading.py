"""Commands that only read a study."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import NoReturn

import click
from optuna import Study
from optuna.trial import FrozenTrial

from optuna_llm._records import Message
from optuna_llm._sampler import LLMSampler
from optuna_llm._study import usage as costs
from optuna_llm._study.attributes import read_texts
from optuna_llm.cli._files import name_file
from optuna_llm.cli._opening import open_study
from optuna_llm.cli._opening import print_json
from optuna_llm.cli._opening import take_json
from optuna_llm.cli._opening import take_study
from optuna_llm.cli._trials import StudyView


@click.command()
@take_study
@take_json
def ask(storage: str, name: str | None, as_json: bool) -> None:
    """Print the prompt for the next trial.

    It is what a model would be sent: the task, the parameters, the trials so far and the form of
    the answer. Write an answer into a file and hand it to "optuna-llm propose". No model is
    needed, and nothing is stored.
    """
    study = open_study(storage, name)
    prompt = LLMSampler(model=_answer_nothing, seed=0).preview(study)
    if as_json:
        print_json({"messages": [message.to_dict() for message in prompt.messages]})
    else:
        click.echo("\n\n".join(message.content.strip("\n") for message in prompt.messages))


def _answer_nothing(messages: Sequence[Message]) -> NoReturn:
    raise AssertionError("A preview asks no model.")


@click.command()
@take_study
@click.option("-t", "--trial", "number", type=int, help="Print this trial in full.")
@click.option("-n", "--last", type=click.IntRange(0), help="List only so many trials, the latest.")
@take_json
def show(
    storage: str, name: str | None, number: int | None, last: int | None, as_json: bool
) -> None:
    """List the trials, or print one of them in full.

    A star marks the best; "by" is who proposed a trial, and "from" the trial whose text it was
    made from.
    """
    study = open_study(storage, name)
    view = StudyView(study)
    if number is not None:
        _print_trials(view, [_find_trial(study, number)], as_json=as_json, is_list=False)
    elif as_json:
        trials = list(view.progress.trials.values())
        shown = trials if last is None else trials[max(0, len(trials) - last) :]
        print_json({**view.to_json(), "trials": [view.trial_to_json(trial) for trial in shown]})
    else:
        click.echo("\n".join(view.describe(last)))


@click.command()
@take_study
@take_json
def best(storage: str, name: str | None, as_json: bool) -> None:
    """Print the best trial in full.

    Of several objectives, it prints the trials on the Pareto front.
    """
    view = StudyView(open_study(storage, name))
    _print_trials(view, _find_best(view), as_json=as_json, is_list=True)


def _print_trials(
    view: StudyView, trials: Sequence[FrozenTrial], *, as_json: bool, is_list: bool
) -> None:
    if as_json:
        found = [view.trial_to_json(trial) for trial in trials]
        print_json(found if is_list else found[0])
    else:
        click.echo("\n\n".join("\n".join(view.describe_trial(trial)) for trial in trials))


@click.command()
@take_study
@click.option("-t", "--trial", "number", type=int, help="Take this trial rather than the best.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    help="The folder to write to, made if need be; by default the current one.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite files that are there.")
def export(storage: str, name: str | None, number: int | None, folder: Path, force: bool) -> None:
    """Write the texts of the best trial to files.

    A text "code" in Python becomes the file code.py. Prints the names of the files.
    """
    study = open_study(storage, name)
    view = StudyView(study)
    if number is not None:
        trial = _find_trial(study, number)
    else:
        trial, *others = _find_best(view)
        if others:
            numbers = ", ".join(str(t.number) for t in [trial, *others])
            raise click.ClickException(f"Several trials are best; name one by --trial: {numbers}.")
    files: dict[Path, str] = {}
    for text_name, text in read_texts(trial, view.texts).items():
        language = view.texts[text_name].language if text_name in view.texts else None
        path = folder / name_file(text_name, language)
        if path in files:
            raise click.ClickException(f"Two texts would be written to {path}.")
        files[path] = text
    if not files:
        raise click.ClickException(f"Trial {trial.number} has no text.")
    taken = [str(path) for path in files if path.exists()]
    if taken and not force:
        raise click.ClickException(f"{', '.join(taken)} exists; --force overwrites it.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8", newline="")
        click.echo(path)


@click.command()
@take_study
@take_json
def usage(storage: str, name: str | None, as_json: bool) -> None:
    """Print what the proposals have cost, by source and by model."""
    spent = costs.usage(open_study(storage, name))
    if as_json:
        print_json(dataclasses.asdict(spent))
    else:
        click.echo(spent)


def _find_trial(study: Study, number: int) -> FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise click.ClickException(f"There is no trial {number}; the study has {len(trials)}.")
    return trials[number]


def _find_best(view: StudyView) -> list[FrozenTrial]:
    if not view.progress.best:
        raise click.ClickException("No trial is complete yet.")
    return [view.progress.trials[record.number] for record in view.progress.best]
