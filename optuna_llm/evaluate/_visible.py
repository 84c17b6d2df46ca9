"""The files that a candidate sees: this Python with its packages, and the system's programs.

Each is listed by itself, so that nothing is exposed only because it lies next to them: a project
in ``/usr/src``, the project around a virtual environment, its ``pip.conf``, conda's variables.
"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import functools
import os
from pathlib import Path
import shutil
import site
import sys
import sysconfig
from typing import Literal
from typing import TypeAlias


Mount: TypeAlias = tuple[Literal["bind", "link", "hide"], str]
"""How a path comes about: bound from a path, a link to one, or an empty folder over it."""

_SYSTEM = (
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/nix/store",
    "/gnu/store",
)
# Of /usr/share, in which anything may be, what Python's own modules and plots read. Every mount
# costs a sixth of a millisecond, so what others need is there for others only.
_SHARED = ("/usr/share/fonts", "/usr/share/zoneinfo", "/etc/localtime")
_SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/nsswitch.conf")
_OF_NETWORK = (
    "/etc/ca-certificates",
    "/etc/hosts",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/resolv.conf",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/usr/share/ca-certificates",
)
_OF_OTHER_LANGUAGES = (
    "/usr/share/R",
    "/usr/share/i18n",
    "/usr/share/locale",
    "/usr/share/nodejs",
    "/usr/share/perl",
    "/usr/share/perl5",
    "/usr/share/tcltk",
    "/usr/share/terminfo",
)


def list_mounts(interpreter: str, *, network: bool) -> tuple[tuple[str, Mount], ...]:
    """Path to what is mounted there, parents before what lies within them.

    Args:
        interpreter: The program that runs the candidate.
        network: Whether it may use the network, and so needs to know how.
    """
    found = shutil.which(interpreter)
    further = (*_OF_NETWORK,) if network else ()
    if found and clean_path(found) != clean_path(sys.executable):
        further = (*further, *_OF_OTHER_LANGUAGES, os.path.abspath(found))
    return _list_mounts(further, _private_folders())


@functools.cache
def _list_mounts(
    further: tuple[str, ...], private: frozenset[str]
) -> tuple[tuple[str, Mount], ...]:
    mounts: dict[str, Mount] = {}
    for path in (*_SYSTEM, *_SHARED, *_SETTINGS, *_python_files(), *further):
        links, real = _follow(path)
        if real != "/" and os.path.exists(real):
            mounts[real] = ("bind", real)
            mounts.update({link: ("link", target) for link, target in links.items()})
    for path in private - mounts.keys():
        mounts[path] = ("hide", "")
    return tuple(_prune(mounts).items())


def clean_path(path: str) -> str:
    """The path without links and ``..`` but for its last part, which may be a link.

    A virtual environment's Python is a link, and knows by where it lies that it is in one.
    """
    folder, name = os.path.split(os.path.abspath(path) if not os.path.isabs(path) else path)
    return os.path.join(os.path.realpath(folder), name)


def list_libraries() -> list[str]:
    """Folders of shared libraries that this Python was told to look in, and that are shown."""
    told = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return [folder for folder in (os.path.join(sys.base_prefix, "lib"),) if folder in told]


def _python_files() -> list[str]:
    """This Python's executables, standard library, packages and shared libraries."""
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    base |= {"installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}
    found = [sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib")]
    found += [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    found += site.getsitepackages() if hasattr(site, "getsitepackages") else []
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    found.append(os.path.join(sys.prefix, "pyvenv.cfg"))
    executables = {sys.executable, getattr(sys, "_base_executable", None) or sys.executable}
    for executable in executables:
        folder = os.path.dirname(executable)
        names = {"python", "python3", f"python3.{sys.version_info[1]}"}
        found += [executable, *(os.path.join(folder, name) for name in names)]
    for prefix in {sys.base_prefix, sys.base_exec_prefix}:
        if os.path.isdir(os.path.join(prefix, "conda-meta")):
            # Its packages bring libraries and data of their own; etc and conda-meta stay hidden.
            found += [os.path.join(prefix, name) for name in ("bin", "lib", "share", "ssl")]
    for folder in {os.path.join(sys.base_prefix, "lib"), "/usr/local/lib"}:
        with contextlib.suppress(OSError):
            found += [entry.path for entry in os.scandir(folder) if ".so." in f"{entry.name}."]
    return [path for path in found if path]


def _private_folders() -> frozenset[str]:
    """The current folder and the user's home, by all their names."""
    folders = {os.path.expanduser("~")}
    with contextlib.suppress(OSError):
        folders.add(os.getcwd())
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        folders.add(pwd.getpwuid(os.getuid()).pw_dir)
    return frozenset(map(os.path.realpath, folders))


def _follow(path: str) -> tuple[dict[str, str], str]:
    """The links on the way to a path, each with where it leads in the end, and the real path."""
    links = {}
    done = "/"
    for part in Path(path).parts[1:]:
        here = os.path.join(done, part)
        if part == "..":
            done = os.path.dirname(done)
        elif os.path.islink(here):
            links[here] = done = os.path.realpath(here)
        else:
            done = here
    return links, done


def _prune(mounts: dict[str, Mount]) -> dict[str, Mount]:
    """The mounts that change anything, in order."""
    pruned: dict[str, Mount] = {}
    for path in sorted(mounts, key=lambda path: Path(path).parts):
        kind = mounts[path][0]
        around = find_nearest(os.path.dirname(path), pruned)
        if around == "bind" if kind == "hide" else around != "bind":
            pruned[path] = mounts[path]
    return pruned


def find_nearest(path: str, mounts: Mapping[str, Mount]) -> str:
    """How the nearest mount at or around a path came about; empty where there is none."""
    for place in (path, *map(str, Path(path).parents)):
        if place in mounts:
            return mounts[place][0]
    return ""
