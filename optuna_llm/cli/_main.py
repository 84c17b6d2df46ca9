"""The command ``optuna-llm``: its subcommands, and errors in one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any
import warnings

import click
import optuna

from optuna_llm._errors import LLMError
from optuna_llm._quoting import one_line
from optuna_llm.cli._reading import ask
from optuna_llm.cli._reading import best
from optuna_llm.cli._reading import export
from optuna_llm.cli._reading import show
from optuna_llm.cli._reading import usage
from optuna_llm.cli._running import run
from optuna_llm.cli._steering import dashboard
from optuna_llm.cli._steering import notes
from optuna_llm.cli._steering import propose
from optuna_llm.cli._steering import report


_MAX_SAID = 2_000


# The character in front keeps click from wrapping the lines.
_EXAMPLES = """\b
Example:
  optuna-llm run study.db golf.py:objective --direction minimize
  optuna-llm ask study.db > prompt.txt
  optuna-llm propose study.db reply.txt
  optuna-llm run study.db golf.py:objective
  optuna-llm best study.db
"""


class _Commands(click.Group):
    """Subcommands whose foreseeable errors end with one line and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (
            LLMError,
            ImportError,
            OSError,
            ValueError,
            optuna.exceptions.OptunaError,
        ) as error:
            if isinstance(error, BrokenPipeError):  # The reader has seen enough: click's to tell.
                raise
            raise click.ClickException(one_line(str(error), _MAX_SAID)) from error


@click.group(
    cls=_Commands, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="optuna-llm")
def main() -> None:
    """Watch a study of optuna_llm, propose trials of your own, and evaluate them.

    STORAGE is a storage's URL, such as sqlite:///study.db, or the path of an SQLite database or a
    journal. With several studies in it, --study says which one is meant.
    """
    # What is of interest is printed. Notes on how Optuna works at it would only be in the way.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


@click.command()
def skill() -> None:
    """Print instructions for a coding agent that is to drive a study.

    Agents look for them in a folder of skills: write them to .claude/skills/optuna-llm/SKILL.md
    or .agents/skills/optuna-llm/SKILL.md of the project.
    """
    text = Path(__file__).with_name("SKILL.md").read_text(encoding="utf-8")
    click.echo(text, nl=False)


for command in (ask, best, dashboard, export, notes, propose, report, run, show, skill, usage):
    main.add_command(command)
