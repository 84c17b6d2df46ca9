"""From what a user types to a storage and a study."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any
from typing import TypeVar

import click
from click.shell_completion import CompletionItem
import optuna
from optuna import Study
from optuna.storages import BaseStorage
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal import JournalRedisBackend

from optuna_llm._quoting import one_line
from optuna_llm._secrets import strip_url


_SQLITE = "sqlite:///"
_SQLITE_MAGIC = b"SQLite format 3\x00"
_SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")

_Command = TypeVar("_Command", bound=Callable[..., Any])


def take_storage(command: _Command) -> _Command:
    """The argument STORAGE."""
    return click.argument("storage", shell_complete=_complete_file)(command)


def take_study(command: _Command) -> _Command:
    """The argument STORAGE and the option --study."""
    option = click.option(
        "-s",
        "--study",
        "name",
        metavar="NAME",
        help="The study, if the storage has several.",
        shell_complete=_complete_study,
    )
    return take_storage(option(command))


take_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: object) -> None:
    """Print a value as JSON, one that has no form there as its repr."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=repr))


def open_study(address: str, name: str | None) -> Study:
    """The study of a name at an address; without a name the only one there.

    Raises:
        ClickException: If there is none, or there are several.
    """
    storage = open_storage(address)
    names = optuna.get_all_study_names(storage)
    if not names:
        raise click.ClickException(f"There is no study in {strip_url(address)}.")
    if name is None and len(names) > 1:
        raise click.ClickException(f"Say which study by --study: {_list(names)}.")
    if name is not None and name not in names:
        raise click.ClickException(f"There is no study {name!r}; there are {_list(names)}.")
    return optuna.load_study(study_name=name or names[0], storage=storage)


def open_storage(address: str, *, create: bool = False) -> BaseStorage:
    """The storage at an address.

    Args:
        address: A URL, or the path of an SQLite database or a journal.
        create: Whether a file that is not there is made, an SQLite database if its name ends so.

    Raises:
        ClickException: If there is none, or it cannot be opened.
    """
    if address.startswith("redis://"):
        return _open_redis(address)
    if address.startswith(_SQLITE):
        path = Path(address.removeprefix(_SQLITE).partition("?")[0])
    elif "://" in address:
        return _open_database(address)
    else:
        path = Path(address)
    if not path.exists() and not create:
        raise click.ClickException(f"There is no storage at {path}.")
    if path.is_dir():
        raise click.ClickException(f"{path} is a folder, not a storage.")
    if address.startswith(_SQLITE):
        return _open_database(address)
    if _is_sqlite(path):
        return _open_database(f"{_SQLITE}{path}")
    if not _is_journal(path):
        raise click.ClickException(f"{path} is neither an SQLite database nor a journal.")
    return JournalStorage(JournalFileBackend(str(path)))


def _open_database(url: str) -> BaseStorage:
    # Only here, since it takes longer to import than a journal to be read.
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return optuna.storages.get_storage(url)
    except SQLAlchemyError as error:
        said = one_line(str(error).partition("\n")[0], 500)
        raise click.ClickException(f"{strip_url(url)} cannot be opened: {said}") from error


def _open_redis(url: str) -> BaseStorage:
    from redis.exceptions import RedisError

    try:
        return JournalStorage(JournalRedisBackend(url))
    except RedisError as error:
        said = one_line(str(error), 500)
        raise click.ClickException(f"{strip_url(url)} cannot be opened: {said}") from error


def _is_sqlite(path: Path) -> bool:
    if not path.exists():
        return path.suffix in _SQLITE_SUFFIXES
    with path.open("rb") as file:
        return file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC


def _is_journal(path: Path) -> bool:
    """Whether a file begins as a journal does, or is empty or not there, as one that begins."""
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        line = file.readline(1_000_000)
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and "op_code" in entry


def _list(names: list[str]) -> str:
    return ", ".join(one_line(name) for name in names)


def _complete_file(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    return [CompletionItem(word, type="file")]


def _complete_study(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    # While an option has no value yet, click leaves arguments unread.
    address = next(iter(ctx.args), None) or ctx.params.get("storage")
    if not isinstance(address, str):
        return []
    try:
        names = optuna.get_all_study_names(open_storage(address))
    except (click.ClickException, ImportError, OSError, ValueError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(word)]
