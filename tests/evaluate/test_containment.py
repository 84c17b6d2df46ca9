"""What contained candidates can neither read, write nor reach."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import socket
import subprocess
import sys
import tempfile
import threading
from uuid import uuid4

from contained import run
import pytest


pytestmark = pytest.mark.usefixtures("bubblewrap")


def test_keys_in_the_environment_are_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-secret")
    seen = run(
        "import glob, os\n"
        "print('ran', dict(os.environ))\n"
        "for path in glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline'):\n"
        "    try: print(path, open(path, 'rb').read())\n"
        "    except OSError as error: print(error)\n"
    )
    assert "ran" in seen
    assert "sk-the-secret" not in seen
    assert "OPENAI" not in seen


def test_files_of_the_user_and_the_project_are_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the secret")
    with tempfile.NamedTemporaryFile("w", dir=Path.home()) as secret:
        secret.write("the secret")
        secret.flush()
        paths = [secret.name, str(tmp_path / "secret"), __file__, "/etc/shadow", "~/.ssh/id_rsa"]
        seen = run(
            "import os\n"
            f"for path in {paths!r}:\n"
            "    try: print('READ', open(os.path.expanduser(path)).read())\n"
            "    except OSError as error: print(error)\n"
            f"print('ran', os.path.exists({str(Path.home() / '.ssh')!r}))\n"
        )
    assert "ran False" in seen
    assert "READ" not in seen


def test_nothing_is_written_outside_of_its_folder(tmp_path: Path) -> None:
    mark = f"mark-{uuid4().hex}"
    folders = [str(tmp_path), str(Path.home()), str(Path(__file__).parent), "/usr", "/etc"]
    folders += [sys.prefix, "/candidate", "/var/tmp", "/tmp"]
    seen = run(
        "import os\n"
        f"for folder in {folders!r}:\n"
        "    try:\n"
        "        os.makedirs(folder, exist_ok=True)\n"
        f"        open(folder + '/{mark}', 'w').write('x')\n"
        "        print('wrote', folder)\n"
        "    except OSError as error: print(error)\n"
    )
    assert [f for f in folders if (Path(f) / mark).exists()] == []
    # Its own /tmp it may write to, within which the first of these folders was made anew.
    assert "wrote /tmp\n" in seen
    assert "wrote /usr" not in seen


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A server on this machine, and the addresses of those who have connected to it."""
    visitors: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                visitors.append(address[0])
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], visitors
        server.shutdown(socket.SHUT_RDWR)


CONNECT = """
import socket
for address in [("127.0.0.1", {port}), ("192.0.2.1", 80)]:
    try: socket.create_connection(address, 2); print("connected", address)
    except OSError as error: print(error)
"""


def test_there_is_no_network_not_even_to_this_machine(
    listener: tuple[int, list[str]],
) -> None:
    port, visitors = listener
    seen = run(CONNECT.format(port=port))
    assert "unreachable" in seen
    assert "connected" not in seen
    assert visitors == []


def test_with_the_network_allowed_this_machine_is_reached(
    listener: tuple[int, list[str]],
) -> None:
    port, visitors = listener
    assert "connected ('127.0.0.1'" in run(CONNECT.format(port=port), network=True)
    assert visitors == ["127.0.0.1"]


@pytest.mark.slow
def test_nowhere_else_is_anything_written() -> None:
    code = """
import os
for folder, folders, _ in os.walk("/"):
    if folder in ("/proc", "/tmp", "/dev/shm", "/candidate", "/usr", "/lib"):
        folders.clear()
        continue
    try:
        open(folder + "/mark", "w")
        print("WROTE", folder)
    except OSError: pass
print("ran")
"""
    assert run(code, timeout=60) == "ran\n"


def test_names_of_the_users_keys_are_out_of_reach() -> None:
    if not os.path.exists("/proc/keys"):
        return
    assert "Permission denied" in run("print(open('/proc/keys').read())")


def test_it_cannot_kill_what_runs_outside() -> None:
    code = """
import os, signal
print("ran", flush=True)
for pid in (os.getppid(), 1):
    try: os.kill(pid, signal.SIGKILL)
    except OSError as error: print(error)
"""
    code += "print('still there')"
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert "still there" in run(code)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
