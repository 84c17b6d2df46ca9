"""What is to run, checked before anything does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
import math
import os
from pathlib import Path
from pathlib import PurePosixPath
from typing import get_args
from typing import Literal
from typing import TypeAlias

from optuna_llm.evaluate._records import Limits


Sandbox: TypeAlias = Literal["auto", "require", "container", "none"]
Files: TypeAlias = Mapping[str, "str | bytes | os.PathLike[str]"]

PROGRAM = "program.py"


@dataclass(frozen=True)
class Job:
    """One run of one program.

    Attributes:
        program: The program.
        interpreter: The command that runs it; empty where the harness does, in this Python.
        timeout: Seconds until it is stopped, with all that it has started.
        limits: What it may use besides.
        sandbox: See :func:`run_script`.
        network: Whether it may use the network.
        files: What it is handed beside the program, as :func:`check_files` returns it.
        env: Environment variables besides the few that every candidate gets.
        stdin: What it reads from standard input.
        inputs: A parcel of variables for the harness.
    """

    program: bytes
    interpreter: tuple[str, ...]
    timeout: float
    limits: Limits
    sandbox: Sandbox
    network: bool
    files: Mapping[str, bytes | Path]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    inputs: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 < self.timeout < math.inf:
            raise ValueError(f"timeout must be above 0 seconds, and finite: {self.timeout!r}.")
        if self.sandbox not in get_args(Sandbox):
            raise ValueError(
                f"sandbox must be auto, require, container or none: {self.sandbox!r}."
            )
        words = [*self.interpreter, *self.env, *self.env.values()]
        if any("\0" in word for word in words):
            raise ValueError("interpreter and env must not hold null characters.")
        for name in self.env:
            if not name or "=" in name:
                raise ValueError(f"env: {name!r} cannot be the name of a variable.")


def check_files(files: Files | str | os.PathLike[str] | None) -> dict[str, bytes | Path]:
    """What a candidate is handed, by the path at which it finds it.

    Args:
        files: Relative path to content or to an existing file or folder; or one folder, all of
            which is handed over.

    Raises:
        ValueError: If a path leaves the candidate's folder, is taken, or does not exist.
        TypeError: If a content is of another type.
    """
    if files is None:
        return {}
    if isinstance(files, (str, os.PathLike)):
        if not Path(files).is_dir():
            raise ValueError(f"files must be a folder or a mapping: {os.fspath(files)!r}.")
        # Links within it stay links: where they lead is not what was handed over.
        entries = {path.name: path for path in Path(files).absolute().iterdir()}
        if PROGRAM in entries:
            raise ValueError(f"files: {PROGRAM!r} is the program itself.")
        return dict(entries)
    checked = {str(_check_path(name)): _check_content(name, files[name]) for name in files}
    for name in checked:
        for parent in PurePosixPath(name).parents:
            if str(parent) in checked:
                raise ValueError(f"files: {str(parent)!r} is a file and the folder of {name!r}.")
    return checked


def _check_path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ValueError(f"files: {name!r} must be a relative path without '..'.")
    if str(path) == PROGRAM:
        raise ValueError(f"files: {PROGRAM!r} is the program itself.")
    return path


def _check_content(name: str, content: object) -> bytes | Path:
    if isinstance(content, str):
        return encode(f"files: {name!r}", content)
    if isinstance(content, bytes):
        return content
    if isinstance(content, os.PathLike):
        path = Path(content).resolve()
        if not path.exists():
            raise ValueError(f"files: {name!r}: there is no {str(path)!r}.")
        return path
    raise TypeError(f"files: {name!r} must be str, bytes or a path: {type(content).__name__}.")


def encode(what: str, text: str) -> bytes:
    """The text in UTF-8.

    Raises:
        ValueError: If it holds a lone surrogate, by what it is.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} is not valid Unicode: it holds a lone surrogate at {error.start}."
        ) from error
