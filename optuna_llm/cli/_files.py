"""Names of files for texts."""

from __future__ import annotations

import re


_SUFFIXES = {
    "": ".txt",
    "bash": ".sh",
    "c": ".c",
    "c#": ".cs",
    "c++": ".cpp",
    "cpp": ".cpp",
    "csharp": ".cs",
    "css": ".css",
    "csv": ".csv",
    "go": ".go",
    "haskell": ".hs",
    "html": ".html",
    "java": ".java",
    "javascript": ".js",
    "js": ".js",
    "json": ".json",
    "julia": ".jl",
    "kotlin": ".kt",
    "latex": ".tex",
    "lua": ".lua",
    "markdown": ".md",
    "md": ".md",
    "perl": ".pl",
    "php": ".php",
    "py": ".py",
    "python": ".py",
    "python3": ".py",
    "r": ".r",
    "rs": ".rs",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala",
    "sh": ".sh",
    "shell": ".sh",
    "sql": ".sql",
    "svg": ".svg",
    "swift": ".swift",
    "toml": ".toml",
    "ts": ".ts",
    "typescript": ".ts",
    "xml": ".xml",
    "yaml": ".yaml",
    "yml": ".yaml",
}
_MAX_NAME = 100


def name_file(name: str, language: str | None) -> str:
    """The name of a file for a text: one that every system takes, in no other folder."""
    plain = re.sub(r"[^\w.-]+", "_", name)[:_MAX_NAME].lstrip(".-")
    suffix = _SUFFIXES.get((language or "").strip().lower(), ".txt")
    return (plain or "text") + ("" if plain.lower().endswith(suffix) else suffix)
