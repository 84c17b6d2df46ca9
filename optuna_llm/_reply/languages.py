"""What is known of the languages that texts are written in."""

from __future__ import annotations

import ast
import json
import re


_PROSE = {"", "markdown", "md", "text", "txt", "plain", "plaintext", "prose", "rst", "english"}
_PYTHON = {"python", "python3", "py"}
_MARKUP = {"html", "xml", "svg", "xhtml", "xsl", "xslt"}

_MAX_PARSED = 300_000
_MAX_NESTED = 80

_ENTITY_NAME = re.compile(r"&(lt|gt|amp|quot|apos);")
_BAD_ESCAPE = re.compile(r"\\([^\\\n'\"abfnrtvxNuU0-7])|\\.", re.DOTALL)


def is_code(language: str | None) -> bool:
    """Whether a text in this language is a program or data, and never begins with a fence."""
    return _read(language) not in _PROSE


def makes_sense(text: str, language: str | None) -> bool | None:
    """Whether a text is a program or data of its language; None where no parser is at hand."""
    if _read(language) == "json":
        return _is_json(text)
    return _is_python(text) if _read(language) in _PYTHON else None


def guess_language(initial: str) -> str | None:
    """The language of a text that none is given for; None if it may as well be prose."""
    tree = _parse(initial)
    words = (ast.Expr, ast.AnnAssign)  # "Yes" is Python, and so is "Note: short".
    return "python" if tree and any(not isinstance(x, words) for x in tree.body) else None


def is_lone_expression(text: str, language: str | None) -> bool:
    """Whether a program consists of one expression, which does nothing if it is a value."""
    tree = _parse(text) if _read(language) in _PYTHON else None
    return tree is not None and len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr)


def _read(language: str | None) -> str:
    return next(iter((language or "").lower().split()), "")


def is_markup(language: str | None) -> bool:
    """Whether a document in this language begins with a tag."""
    return _read(language) in _MARKUP


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_python(text: str) -> bool:
    """Whether Python's parser takes the text, and its entities stand in strings only."""
    tree = _parse(text)
    entities = set(_ENTITY_NAME.findall(text))
    if tree is None or not entities:
        return tree is not None
    # "x &lt; 2" is Python: the bits that x and lt share, and then a 2.
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return not ({node.id for node in names} - stored) & entities


def _parse(text: str) -> ast.Module | None:
    """The text as Python's parser reads it; what would hold that up is not given to it."""
    if len(text) > _MAX_PARSED or _is_nested(text):
        return None
    try:
        # Escapes that mean nothing are warned of, and warnings are the whole process's.
        return ast.parse(_BAD_ESCAPE.sub(_double, text))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _double(match: re.Match[str]) -> str:
    return "\\" + match[0] if match[1] else match[0]


def _is_nested(text: str) -> bool:
    depth = 0
    for match in re.finditer(r"[([{]|[)\]}]", text):
        depth += 1 if match[0] in "([{" else -1
        if depth > _MAX_NESTED:
            return True
    return False
