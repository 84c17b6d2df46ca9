"""The temporary folder of a run: the candidate's files, ours, and the file for its values."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import functools
import importlib.util
import marshal
import os
from pathlib import Path
import shutil
import subprocess
import tempfile

from optuna_llm.evaluate._job import Job
from optuna_llm.evaluate._job import PROGRAM


_HERE = Path(__file__).parent


def is_root() -> bool:
    """Whether this process runs as root."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


class Folder:
    """The folder of one run, made by :func:`open_folder`.

    Attributes:
        root: The folder.
        work: The folder that the candidate starts in.
        ours: The folder with the programs that start it.
        result: The file that it may leave values in.
        links: Name in its folder to the user's own file or folder, where it need not be copied.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.ours = root / "ours"
        self.result = root / "result"
        self.links: dict[str, Path] = {}
        for folder, mode in ((self.work, 0o777), (self.ours, 0o755)):
            folder.mkdir()
            folder.chmod(mode)
        # Kept open, so that nothing which a candidate puts in its place is ever opened.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._result = os.open(self.result, flags, 0o666)
        self.result.chmod(0o666)

    def lay_out(self, job: Job, *, copy: bool) -> None:
        """Write all that a run needs, readable to whoever the candidate will be.

        Args:
            job: What is to run.
            copy: Whether the user's files are copied where they could be shown as they are.
        """
        for name in ("launcher", "harness", "transfer"):
            self.write_ours(f"{name}.pyc", _compile(name))
        if job.inputs is not None:
            self.write_ours("inputs", job.inputs)
        _write(self.work / PROGRAM, job.program)
        for name, content in job.files.items():
            target = self.work / name
            if isinstance(content, bytes):
                _write(target, content)
            elif copy or "/" in name or content.is_symlink() or not _is_open_to_all(content):
                _copy(content, target)
            else:
                self.links[name] = content

    def write_ours(self, name: str, content: bytes) -> None:
        """Write a file for the programs that start the candidate, or for the system."""
        _write(self.ours / name, content)

    def read_result(self, limit: int) -> bytes:
        """What the candidate has left, up to one byte more than the limit."""
        with open(self._result, "rb", closefd=False) as file:
            file.seek(0)
            return file.read(limit + 1)

    def close(self) -> None:
        """Close the file of the result."""
        os.close(self._result)


@functools.cache
def _compile(name: str) -> bytes:
    """One of our modules as bytecode for this Python, which spares each candidate milliseconds."""
    path = _HERE / f"_{name}.py"
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


@contextlib.contextmanager
def open_folder() -> Iterator[Folder]:
    """A folder for one run, removed afterwards with all that the candidate has put there."""
    root = tempfile.mkdtemp(prefix="optuna_llm-")
    try:
        folder = Folder(Path(root))
        try:
            yield folder
        finally:
            folder.close()
    finally:
        try:
            shutil.rmtree(root, ignore_errors=True)
        except RecursionError:  # Folders within folders, thousands of times.
            subprocess.run(["rm", "-rf", root], check=False, capture_output=True)


def _write(path: Path, content: bytes) -> None:
    _make_parents(path)
    path.write_bytes(content)
    path.chmod(0o644)


def _copy(source: Path, target: Path) -> None:
    _make_parents(target)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True)
        for folder, _, names in os.walk(target):
            os.chmod(folder, 0o755)
            for name in names:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o644 | path.stat().st_mode & 0o111)
    else:
        shutil.copy(source, target)
        target.chmod(0o644 | source.stat().st_mode & 0o111)


def _make_parents(path: Path) -> None:
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir()
            parent.chmod(0o755)


def _is_open_to_all(path: Path) -> bool:
    """Whether any user may read a file, or all of a folder; else the candidate gets a copy."""
    if not is_root():
        return True  # The candidate is this user.
    paths = [str(path)]
    for folder, folders, names in os.walk(path):
        paths += [os.path.join(folder, name) for name in (*folders, *names)]
    for inner in paths:
        mode = os.lstat(inner).st_mode
        needed = 0o005 if os.path.isdir(inner) else 0o004
        if mode & needed != needed:
            return False
    return True
