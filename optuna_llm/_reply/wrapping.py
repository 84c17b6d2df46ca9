"""Texts freed of what models wrap them in: fences, CDATA, tags, HTML entities.

A wrapper is taken off where only that makes sense, which for Python and JSON their parsers say.
Where it cannot be told the text is refused: a wrapper must never be evaluated as code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
import re

from optuna_llm._errors import ReplyError
from optuna_llm._records import TextParameter
from optuna_llm._reply.fences import read_fence
from optuna_llm._reply.fences import split_fences
from optuna_llm._reply.fences import strip_fence
from optuna_llm._reply.languages import guess_language
from optuna_llm._reply.languages import is_code
from optuna_llm._reply.languages import is_lone_expression
from optuna_llm._reply.languages import is_markup
from optuna_llm._reply.languages import makes_sense


_MAX_TRIES = 4
_MAX_LAYERS = 3
_MAX_FENCES = 200

_CDATA = "<![CDATA["
# The end of a section cannot stand in it: who means it ends the section and begins another.
_CDATA_END = f"]]]]>{_CDATA}>"
_UNSAFE = re.compile(r"[`~]{3}|</?\w|<!|&#?\w+;|^\s*[<>=+-]{5}|^\s*[\"'{]", re.MULTILINE)
_CHARACTERS = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'", "#39": "'", "#34": '"'}
_ENTITY = re.compile(r"&(lt|gt|amp|quot|apos|#39|#34);")
_ESCAPED_TAG = re.compile(r"&lt;(?:text|numbers|edit|proposal)\b", re.IGNORECASE)
_TAG = re.compile(r"<(?:text|numbers|edit|proposal)\b", re.IGNORECASE)
_LONE_AMPERSAND = re.compile(r"&(?!(?:lt|gt|amp|quot|apos|#39|#34);)")
_LITERAL = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`", re.DOTALL)
_ELEMENT = re.compile(r"<(\w{1,40})[^<>]{0,200}>")
_DIFF = re.compile(r"\s*[`~]{3,}\s*(?:diff|patch)\b", re.IGNORECASE)


def decode_entities(text: str) -> str:
    """The text with the entities that stand for characters of markup as these characters."""
    return _ENTITY.sub(lambda match: _CHARACTERS[match[1]], text)


def write_literal(text: str) -> str:
    """The text as it stands between tags to be read to the letter, whatever it holds."""
    if not _UNSAFE.search(text):
        return text
    return f"{_CDATA}\n{text.replace(']]>', _CDATA_END)}\n]]>"


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
    literal = _strip_cdata(text)
    if not is_code(parameter.language):
        core = literal if literal is not None else _find_guessed(text, parameter)
        core = strip_fence(text) if core is None else core
        _refuse_open_cdata(text, parameter)
        return text if core is None else core
    if (
        literal is not None
        and strip_fence(literal) is None
        and makes_sense(literal, parameter.language) is not False
    ):
        return literal
    if not _find_doubt(text):
        _refuse_quoted(text, parameter)
        return text
    if makes_sense(text, parameter.language) is None:
        return _unwrap_unparsed(text, parameter)
    found = _find_sense(text, parameter)
    if found is not None:
        return found
    core = _strip_whole(text)
    if (doubt := _find_doubt(core)) and _strip_cdata(text) != core:
        raise ReplyError(
            f'<text name="{parameter.name}"> is not valid {parameter.language} as it stands: '
            f"{doubt}. Send the text itself, with nothing around it."
        )
    return core


def _find_guessed(text: str, parameter: TextParameter) -> str | None:
    """The program in a text that has no language, if its fence or the first text tells of one."""
    if parameter.language or not _find_doubt(text):
        return None
    fence = read_fence(text.strip().partition("\n")[0])
    language = (fence and fence.words) or guess_language(parameter.initial or "")
    if not language or makes_sense("", language) is None:
        return None
    with suppress(ReplyError):
        return _find_sense(text, replace(parameter, language=language))
    return None


def _trim(text: str) -> str:
    if text.startswith("\n"):
        text = text.removeprefix("\n")
    else:
        text = text.lstrip(" \t").removeprefix("\n")
    return text.rstrip(" \t").removesuffix("\n")


def _is_wrapped_as(initial: str, text: str) -> bool:
    """Whether what looks like a wrapper is part of the text, as it is of the first one."""
    first, second = (read_fence(t.strip().partition("\n")[0]) for t in (initial, text))
    return bool(first and second and first.bar == second.bar)


def _find_doubt(text: str) -> str:
    """What speaks for something wrapped around a program, or for escaped characters."""
    bare = text.strip()
    if _CDATA in bare:
        return f"it holds {_CDATA}"
    if bare.startswith("<"):
        return "it begins with a tag"
    if any(line[:1] in "`~" and read_fence(line) for line in map(str.lstrip, bare.split("\n"))):
        return "it holds a fence"
    entity = _ENTITY.search(bare)
    return f"it holds {entity[0]}" if entity else ""


def _refuse_quoted(text: str, parameter: TextParameter) -> None:
    """Refuse a program that stands in a string or in JSON: it would run and do nothing.

    Raises:
        ReplyError: If the text is one, and the first text is not.
    """
    bare, initial = text.strip(), (parameter.initial or "").strip()
    ends = bare[:1] + bare[-1:]
    if ends not in ('""', "''", "{}") or initial[:1] in ("", bare[:1]):
        return
    if is_lone_expression(bare, parameter.language):
        raise ReplyError(
            f'<text name="{parameter.name}"> is one value, and no program: send the program '
            "itself, not in quotes or JSON."
        )


def _refuse_open_cdata(text: str, parameter: TextParameter) -> None:
    """Refuse a text that begins as a section of CDATA and does not end as one.

    Raises:
        ReplyError: If it does.
    """
    if text.strip().startswith(_CDATA) and _strip_cdata(text) is None:
        raise ReplyError(
            f'<text name="{parameter.name}"> begins with {_CDATA} and does not end with ]]>: send '
            "the text itself."
        )


def _unwrap_unparsed(text: str, parameter: TextParameter) -> str:
    """The text of a language without a parser here; what is in doubt is refused.

    Raises:
        ReplyError: If there is a doubt.
    """
    where = f'<text name="{parameter.name}">'
    _refuse_open_cdata(text, parameter)
    core = _strip_whole(text)
    bare = core.strip()
    fences = [read_fence(line) for line in bare.split("\n")]
    if fences[0] or fences[-1] or any(f and f.words and not f.indent for f in fences):
        raise ReplyError(f"{where} holds fences beside the text: send the text itself, unfenced.")
    if is_markup(parameter.language):
        return decode_entities(core) if bare.startswith("&lt;") and "<" not in bare else core
    element = _ELEMENT.match(bare)
    if element and element[1].lower() in {
        str(parameter.language).lower(),
        "code",
        "pre",
        "think",
        "thinking",
    }:
        raise ReplyError(f"{where} begins with {element[0]}: send the text itself, without tags.")
    escaped = _ENTITY.search(_LITERAL.sub("", core))
    is_even = "<" not in core and not _LONE_AMPERSAND.search(core)
    if escaped and is_even and not text.strip().startswith(_CDATA):
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
    # Taking off hundreds of fences is not what a model's habits ask for.
    layers = _MAX_LAYERS if text.count("```") + text.count("~~~") <= _MAX_FENCES else 0
    for depth in range(layers + 1):
        if depth:
            layer = list(dict.fromkeys(core for outer in layer for core in _peel(outer)))
            layer = layer[:_MAX_TRIES]
        found = {c for c in layer if c.strip() and makes_sense(c, parameter.language)}
        if len(found) > 1:
            raise ReplyError(
                f'<text name="{parameter.name}"> can be read in two ways: send the text itself, '
                "without fences, CDATA or entities."
            )
        if found:
            return found.pop()
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
    elif opening and closing and closing in text:
        yield _trim(text.partition(closing)[2])
    is_mixed = ("&lt;" in text and "<" in text) or _LONE_AMPERSAND.search(text)
    if _ENTITY.search(text) and not is_mixed:
        yield decode_entities(text)


def _strip_whole(text: str) -> str:
    """The text without fences and CDATA that stand around all of it."""
    for _ in range(_MAX_LAYERS):
        core = _strip_cdata(text)
        if core is None and not _DIFF.match(text):
            core = strip_fence(text)
        if core is None:
            break
        text = core
    return text


def _strip_cdata(text: str) -> str | None:
    bare = text.strip()
    if not (bare.startswith(_CDATA) and bare.endswith("]]>")):
        return None
    return _trim(bare[len(_CDATA) : -3].replace(_CDATA_END, "]]>"))
