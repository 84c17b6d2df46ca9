"""Commands that add to a study: proposals, notes; the dashboard and the study page."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

import click
import optuna
from optuna import Study

from optuna_llm._proposing.enqueue import propose as enqueue
from optuna_llm.cli._opening import open_storage
from optuna_llm.cli._opening import open_study
from optuna_llm.cli._opening import print_json
from optuna_llm.cli._opening import take_json
from optuna_llm.cli._opening import take_storage
from optuna_llm.cli._opening import take_study
from optuna_llm.cli._trials import StudyView


# The character in front keeps click from wrapping the lines.
_EXAMPLES = """\b
Examples:
  optuna-llm propose study.db reply.txt
  optuna-llm propose study.db --set x=0.5 --set kind=fast
  optuna-llm propose study.db --from 3 --text code=better.py -m "No loop."
"""


_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)


@click.command(epilog=_EXAMPLES)
@take_study
@click.argument("reply", type=_FILE, required=False)
@click.option("--set", "numbers", metavar="NAME=VALUE", multiple=True, help="Set a number.")
@click.option("--text", "texts", metavar="NAME=FILE", multiple=True, help="Set a text to a file.")
@click.option(
    "--from",
    "parent",
    metavar="TRIAL",
    type=int,
    help="The trial that this is made from; its values hold for what is not set.",
)
@click.option("-m", "--rationale", default="", help="Why, in a sentence.")
@click.option("--as", "proposer", metavar="NAME", default="", help="Who proposes it.")
@take_json
def propose(
    storage: str,
    name: str | None,
    reply: str | None,
    numbers: Sequence[str],
    texts: Sequence[str],
    parent: int | None,
    rationale: str,
    proposer: str,
    as_json: bool,
) -> None:
    """Enqueue a trial with values of your own.

    REPLY is a file with an answer in the form that "optuna-llm ask" asks for, or in JSON; "-" is
    the standard input, which is also read if no values are given. Or give the values themselves,
    by --set, --text and --from.

    The values are checked as a model's are, and so is that no trial has them already. The trial
    is run by the next worker that is free, or by "optuna-llm run". Prints its number.
    """
    study = open_study(storage, name)
    proposal: str | dict[str, Any]
    if numbers or texts:
        if reply is not None:
            raise click.UsageError("Give a reply or values, not both.")
        proposal = _take_over(study, parent) | _read_values(numbers, texts)
    else:
        proposal = _read_file(reply or "-")
    number = enqueue(study, proposal, rationale=rationale, proposer=proposer, parent=parent)
    if as_json:
        print_json({"trial": number})
    else:
        click.echo(f"Enqueued as trial {number}.")


def _read_values(numbers: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option, given in (("--set", numbers), ("--text", texts)):
        for item in given:
            key, equals, value = item.partition("=")
            if not equals or not key:
                raise click.BadParameter(f"{item!r} has no '='.", param_hint=option)
            if key in values:
                raise click.BadParameter(f"{key!r} is set twice.", param_hint=option)
            values[key] = _read_file(value) if option == "--text" else _read_number(value)
    return values


def _read_number(value: str) -> Any:
    """A number, true, false, null or a quoted string as in JSON; else the string itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _read_file(name: str) -> str:
    with click.open_file(name, encoding="utf-8") as file:
        text: str = file.read()
    return text


def _take_over(study: Study, parent: int | None) -> dict[str, Any]:
    """The values of the trial that a proposal is made from."""
    view = StudyView(study)
    trial = None if parent is None else view.progress.trials.get(parent)
    if trial is None:
        return {}
    values = view.trial_to_json(trial)
    return {**values["params"], **values["texts"]}


take_log = click.option(
    "--log",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The log of calls: the page shows prompts and replies of trials.",
)


@click.command()
@take_study
@click.option("--max-rows", type=click.IntRange(0), help="Rows that notes on trials may take.")
def notes(storage: str, name: str | None, max_rows: int | None) -> None:
    """Write notes on the trials and plots, which the dashboard shows."""
    # Here and below: it takes a second to import.
    from optuna_llm.dashboard import annotate

    study = open_study(storage, name)
    if max_rows is None:
        annotate(study)
    else:
        annotate(study, max_rows=max_rows)


@click.command()
@take_study
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The file to write.",
)
@take_log
@click.option(
    "--log-trial",
    "log_trials",
    type=click.IntRange(0),
    multiple=True,
    help="A trial whose calls are contained; may be given several times. All by default.",
)
def report(
    storage: str, name: str | None, output: Path, log: Path | None, log_trials: tuple[int, ...]
) -> None:
    """Write the study page, with all texts, to one HTML file."""
    from optuna_llm.dashboard import write_report

    study = open_study(storage, name)
    try:
        write_report(study, output, log_file=log, log_trials=log_trials or None)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}.") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Written to {output}.")


@click.command()
@take_storage
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=8080, show_default=True, help="The port to listen at.")
@click.option(
    "--artifacts",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of the studies' artifacts.",
)
@take_log
def dashboard(
    storage: str, host: str, port: int, artifacts: Path | None, log: Path | None
) -> None:
    """Serve optuna-dashboard and the study pages until interrupted."""
    from optuna_llm.dashboard import run

    optuna.logging.set_verbosity(optuna.logging.INFO)  # It logs its address.
    run(open_storage(storage), host=host, port=port, artifact_store=artifacts, log_file=log)
