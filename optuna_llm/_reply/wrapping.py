"""Texts freed of what models wrap them in: fences, CDATA, tags, HTML entities.

A wrapper is taken off where only that makes sense, which for Python and JSON their parsers say.
Where it cannot be told the text is refused: a wrapper must never be evaluated as code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
import json
import re

from optuna_llm._errors import ReplyError
from optuna_llm._records import TextParameter
from optuna_llm._reply.fences import read_fence
from optuna_llm._reply.fences import split_fences
from optuna_llm._reply.fences import strip_fence


_PROSE = {"", "markdown", "md", "text", "txt", "plain", "plaintext", "prose", "rst", "english"}
_PYTHON = {"python", "python3", "py"}
_MARKUP = {"html", "xml", "svg", "xhtml", "xsl", "xslt"}

_MAX_PARSED = 300_000
_MAX_NESTED = 80
_MAX_TRIES = 12
_MAX_LAYERS = 3

_CDATA = "<![CDATA["
_CHARACTERS = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'", "#39": "'", "#34": '"'}
_ENTITY = re.compile(r"&(lt|gt|amp|quot|apos|#39|#34);")
_ESCAPED_TAG = re.compile(r"&lt;(?:text|numbers|edit|proposal)\b", re.IGNORECASE)
_TAG = re.compile(r"<(?:text|numbers|edit|proposal)\b", re.IGNORECASE)
_LONE_AMPERSAND = re.compile(r"&(?!(?:lt|gt|amp|quot|apos|#39|#34);)")
_LITERAL = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`", re.DOTALL)
_ELEMENT = re.compile(r"<(\w{1,40})[^<>]{0,200}>")
_BAD_ESCAPE = re.compile(r"\\([^\\\n'\"abfnrtvxNuU0-7])|\\.", re.DOTALL)


def is_code(language: str | None) -> bool:
    """Whether a text in this language is a program or data, and never begins with a fence."""
    return (language or "").strip().lower() not in _PROSE


def makes_sense(text: str, language: str | None) -> bool | None:
    """Whether a text is a program or data of its language; None where no parser is at hand."""
    language = (language or "").strip().lower()
    if language == "json":
        return _is_json(text)
    return _is_python(text) if language in _PYTHON else None


def decode_entities(text: str) -> str:
    """The text with the entities that stand for characters of markup as these characters."""
    return _ENTITY.sub(lambda match: _CHARACTERS[match[1]], text)


def unescape_reply(reply: str) -> str:
    """The reply; one whose very tags are escaped has its characters back."""
    if _ESCAPED_TAG.search(reply) and not _TAG.search(reply):
        return decode_entities(reply)
    return reply


def refuse_new_fences(base: str, edited: str, language: str | None) -> None:
    """Refuse a program that edits have put fences into.

    Raises:
        ReplyError: If they have.
    """
    if not is_code(language) or makes_sense(edited, language):
        return
    before, after = (sum(bool(read_fence(line)) for line in t.split("\n")) for t in (base, edited))
    if after > before:
        raise ReplyError("the lines to put there hold a fence: send them without.")


def unwrap(inside: str, parameter: TextParameter) -> str:
    """The text that stands between two tags, without line breaks at the tags or wrappers.

    Raises:
        ReplyError: If it cannot be told what is wrapper and what is text.
    """
    text = _trim(inside.replace("\r\n", "\n"))
    if _is_wrapped_as(parameter.initial or "", text):
        return text
    if not is_code(parameter.language):
        return next((core for core in (_strip_cdata(text), strip_fence(text)) if core), text)
    if not _is_suspect(text):
        return text
    if makes_sense(text, parameter.language) is None:
        return _unwrap_unparsed(text, parameter)
    found = _find_sense(text, parameter)
    if found is not None:
        return found
    core = _strip_whole(text)
    if _is_suspect(core):
        raise ReplyError(
            f'<text name="{parameter.name}"> is no valid {parameter.language}, nor can it be told '
            "what is wrapped around it: send the text itself, without fences, CDATA or entities."
        )
    return core


def _trim(text: str) -> str:
    if text.startswith("\n"):
        text = text.removeprefix("\n")
    else:
        text = text.lstrip(" \t").removeprefix("\n")
    return text.rstrip(" \t").removesuffix("\n")


def _is_wrapped_as(initial: str, text: str) -> bool:
    """Whether what looks like a wrapper is part of the text, as it is of the first one."""
    first, second = (read_fence(t.strip().partition("\n")[0]) for t in (initial, text))
    if first and second:
        return first.bar == second.bar
    return initial.lstrip().startswith(_CDATA)


def _is_suspect(text: str) -> bool:
    """Whether something may be wrapped around a program, or its characters be escaped."""
    bare = text.strip()
    first, last = bare.partition("\n")[0], bare.rpartition("\n")[2]
    return bool(read_fence(first) or read_fence(last) or bare[:1] == "<" or _ENTITY.search(bare))


def _unwrap_unparsed(text: str, parameter: TextParameter) -> str:
    """The text of a language without a parser here; what is in doubt is refused."""
    core = _strip_whole(text)
    bare = core.strip()
    where = f'<text name="{parameter.name}">'
    if (parameter.language or "").strip().lower() in _MARKUP:
        # A document begins with a tag.
        return decode_entities(core) if bare.startswith("&lt;") and "<" not in bare else core
    if read_fence(bare.partition("\n")[0]) or read_fence(bare.rpartition("\n")[2]):
        raise ReplyError(f"{where} holds fences beside the text: send the text itself, unfenced.")
    if bare.startswith(_CDATA):
        raise ReplyError(f"{where} begins with {_CDATA} and does not end with ]]>.")
    escaped = _ENTITY.search(_LITERAL.sub("", core))
    if escaped and core is text and "<" not in core and not _LONE_AMPERSAND.search(core):
        raise ReplyError(
            f"{where} holds {escaped[0]}: send characters as they are. If that is what is "
            f"meant, put the text between {_CDATA} and ]]>."
        )
    return core


def _find_sense(text: str, parameter: TextParameter) -> str | None:
    """The text that makes sense with the fewest wrappers taken off; None if there is none.

    Raises:
        ReplyError: If there are two.
    """
    layer = [text]
    tries = 0
    for _ in range(_MAX_LAYERS + 1):
        found = set()
        for core in layer[: _MAX_TRIES - tries]:
            tries += 1
            if core.strip() and makes_sense(core, parameter.language):
                found.add(core)
        if len(found) > 1:
            raise ReplyError(
                f'<text name="{parameter.name}"> can be read in two ways: send the text itself, '
                "without fences, CDATA or entities."
            )
        if found:
            return found.pop()
        layer = list(dict.fromkeys(core for outer in layer for core in _peel(outer)))
    return None


def _peel(text: str) -> Iterator[str]:
    """The text without one of the wrappers that may be around it."""
    cdata = _strip_cdata(text)
    if cdata is not None:
        yield cdata
        return
    lines = text.strip("\n").split("\n")
    first, last = read_fence(lines[0]), read_fence(lines[-1])
    if first or (last and not last.words):
        yield "\n".join(lines[bool(first) : -1 if last and len(lines) > 1 else None])
    blocks, _ = split_fences(text)
    if len(blocks) == 1:
        yield blocks[0]
    opening = _ELEMENT.match(text.lstrip())
    closing = opening and f"</{opening[1]}>"
    if opening and closing and text.rstrip().endswith(closing):
        yield _trim(text.strip()[opening.end() : -len(closing)])
    is_mixed = ("&lt;" in text and "<" in text) or _LONE_AMPERSAND.search(text)
    if _ENTITY.search(text) and not is_mixed:
        yield decode_entities(text)


def _strip_whole(text: str) -> str:
    """The text without fences and CDATA that stand around all of it."""
    for _ in range(_MAX_LAYERS):
        core = _strip_cdata(text)
        core = strip_fence(text) if core is None else core
        if core is None:
            break
        text = core
    return text


def _strip_cdata(text: str) -> str | None:
    bare = text.strip()
    if not (bare.startswith(_CDATA) and bare.endswith("]]>")):
        return None
    # The end of a section cannot stand in it: who means it ends the section and begins another.
    inside = bare[len(_CDATA) : -3].replace(f"]]]]>{_CDATA}>", "]]>")
    return _trim(inside)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_python(text: str) -> bool:
    """Whether Python's parser takes the text; what would hold it up is not given to it."""
    if len(text) > _MAX_PARSED or _is_nested(text):
        return False
    try:
        # Escapes that mean nothing are warned of, and warnings are the whole process's.
        tree = ast.parse(_BAD_ESCAPE.sub(_double, text))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    if not _ENTITY.search(text):
        return True
    # "x &lt; 2" is Python: the bits that x and lt share, and then a 2.
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return not ({node.id for node in names} - stored) & _CHARACTERS.keys()


def _double(match: re.Match[str]) -> str:
    return "\\" + match[0] if match[1] else match[0]


def _is_nested(text: str) -> bool:
    depth = 0
    for match in re.finditer(r"[([{]|[)\]}]", text):
        depth += 1 if match[0] in "([{" else -1
        if depth > _MAX_NESTED:
            return True
    return False
