"""What a candidate sees of the file system, with secrets planted where users keep them."""

from __future__ import annotations

from collections.abc import Iterator
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig
from uuid import uuid4
import venv

import pytest

import optuna_llm
from optuna_llm.evaluate import _visible
from optuna_llm.evaluate import run_script


pytestmark = pytest.mark.usefixtures("bubblewrap")

# Docker's habit, a folder that is shown itself, one beside packages, and others.
BASES = ["/usr/src", "/usr/lib", "/usr/local/lib", "/usr/share", "/opt", "/srv", Path.home()]
WRITABLE = [str(base) for base in BASES if os.access(base, os.W_OK)]
SECRETS = [
    ".env",
    "labels.csv",
    "home/.netrc",
    ".venv/pip.conf",
    ".venv/etc/conda/activate.d/env_vars.sh",
    ".venv/conda-meta/state",
    ".venv/lib/secret.txt",
]

LOOK = """
import json, os, sys
paths = json.loads(input())
print(json.dumps({
    "read": [path for path in paths if os.path.exists(path)],
    "executable": sys.executable,
    "prefix": sys.prefix,
    "beside": [os.path.exists(os.path.dirname(path)) and os.listdir(os.path.dirname(path))
               for path in paths[:1]],
}))
import json.tool, sqlite3, ssl, ctypes, zoneinfo
zoneinfo.ZoneInfo("Europe/Berlin")
"""
DRIVER = """
import sys
from optuna_llm.evaluate import run_script
code, paths = sys.argv[1:]
execution = run_script(code, stdin=paths, timeout=60, sandbox="require")
assert execution.contained
print(execution.stdout)
sys.stderr.write(execution.stderr)
"""


@pytest.fixture(params=WRITABLE)
def project(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A project with a virtual environment in it, and secrets all over it."""
    folder = Path(request.param) / f"project-{uuid4().hex}"
    folder.mkdir()
    try:
        venv.create(folder / ".venv", symlinks=True, with_pip=False)
        for name in SECRETS:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("the secret")
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("python", ["bin/python", "lib/../bin/../bin/python"])
def test_of_a_project_only_the_python_in_it_is_seen(project: Path, python: str) -> None:
    paths = [str(project / name) for name in SECRETS]
    # The packages are another environment's, which only this side needs.
    packages = [str(Path(optuna_llm.__file__).parents[1]), sysconfig.get_path("purelib")]
    driver = subprocess.run(
        [str(project / ".venv" / python), "-c", DRIVER, LOOK, json.dumps(paths)],
        cwd=project,
        env={
            "PYTHONPATH": os.pathsep.join(packages),
            "HOME": str(project / "home"),
            "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert driver.stderr == ""
    seen = json.loads(driver.stdout)
    assert seen["read"] == []
    assert seen["beside"] == [[".venv"]]
    assert seen["prefix"] == str(project / ".venv")
    assert seen["executable"] == str(project / ".venv/bin/python")


def test_the_current_folder_is_hidden_in_a_folder_that_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder in ("/usr/lib", sysconfig.get_path("purelib")):
        inner = str(next(path for path in Path(folder).iterdir() if path.is_dir()))
        assert os.listdir(inner)
        code = f"import os; print(os.listdir({inner!r}))\nopen({inner!r} + '/x', 'w')"
        monkeypatch.chdir(inner)
        hidden = run_script(code, timeout=20, sandbox="require")
        assert hidden.stdout == "[]\n"
        assert "Read-only file system" in hidden.stderr


def test_of_conda_the_packages_are_seen_and_not_its_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("bin/python", "lib/libopenblas.so", "conda-meta/state", "etc/conda/env_vars.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path))
    _visible._list_mounts.cache_clear()
    try:
        mounts = dict(_visible.list_mounts(sys.executable, network=False))
    finally:
        _visible._list_mounts.cache_clear()
    seen = {str(Path(path).relative_to(tmp_path)) for path in mounts if str(tmp_path) in path}
    assert seen == {"bin", "lib"}


def test_names_of_users_and_machines_are_its_own() -> None:
    code = "import getpass, pwd, socket; print(getpass.getuser(), len(pwd.getpwall()))\n"
    code += "print(socket.gethostname(), socket.gethostbyname('localhost'))"
    execution = run_script(code, timeout=20, sandbox="require")
    assert execution.stdout == "candidate 1\nlocalhost 127.0.0.1\n"


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_files_are_handed_over_by_name_and_path(tmp_path: Path, sandbox: str) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "rows.csv").write_text("1,2\n")
    (tmp_path / "data" / "rows.csv").chmod(0o600)
    (tmp_path / "single.txt").write_text("single")
    execution = run_script(
        "import helper, pack.inner, os\n"
        "print(helper.VALUE, pack.inner.VALUE, open('data/rows.csv').read().strip())\n"
        "print(open(os.path.join(os.path.dirname(__file__), 's')).read(), os.listdir('.') != [])\n"
        "open('mine.txt', 'w').write('it may write beside them')",
        files={
            "helper.py": "VALUE = 'é'",
            "pack/inner.py": b"VALUE = 2",
            "data": tmp_path / "data",
            "s": tmp_path / "single.txt",
        },
        timeout=20,
        sandbox=sandbox,  # type: ignore[arg-type]
    )
    assert execution.feedback.splitlines()[1:] == ["é 2 1,2", "single True"]
    assert sorted(os.listdir(tmp_path / "data")) == ["rows.csv"]


def test_a_folder_is_handed_over_read_only_and_links_in_it_lead_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("given")
    (tmp_path / "secret").write_text("the secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "deep" / "link").symlink_to("../../secret")
    code = """
print(open("deep/a.txt").read())
for path, mode in [("link", "r"), ("deep/link", "r"), ("deep/a.txt", "w"), ("deep/new", "w")]:
    try: print("OPENED", path, open(path, mode))
    except OSError as error: print(error)
"""
    execution = run_script(code, files=folder, timeout=20, sandbox="require")
    assert execution.stdout.startswith("given\n")
    assert "OPENED" not in execution.stdout
    assert (folder / "deep" / "a.txt").read_text() == "given"
