"""Replies and texts that parsers take long for: of any size, and all of one form."""

from __future__ import annotations

from collections.abc import Callable


def _repeat(piece: str, before: str = "", after: str = "") -> Callable[[int], str]:
    return lambda size: before + piece * max(1, (size - len(before + after)) // len(piece)) + after


_TEXT = '<text name="code">\n'
_NUMBERS = '<numbers>{"x": 0.5}</numbers>'
_EDIT = '<edit name="code">\n<<<<<<< SEARCH\n'

REPLIES: dict[str, Callable[[int], str]] = {
    "tildes": _repeat("~", _TEXT, "`\n</text>"),
    "backticks": _repeat("`", _TEXT, "~\n</text>"),
    "fences": _repeat("```\n", _TEXT, "</text>"),
    "fences of growing length": lambda size: "\n".join("`" * n for n in range(3, int(size**0.7))),
    "tags not ended": _repeat("<text name=\n"),
    "tags of blanks": _repeat("<text" + " " * 290),
    "blanks before a tag": _repeat(" ", "", "<text"),
    "blank lines": _repeat(" " * 99 + "\n", "a", "b"),
    "many attributes": _repeat(" name=a", "<text"),
    "attributes of quotes": _repeat('<text name="' + "'" * 200),
    "proposals": _repeat("<proposal>\n</proposal>\n"),
    "proposals with numbers": _repeat(f"<proposal>\n{_NUMBERS}</proposal>\n"),
    "texts": _repeat('<text name="code">x</text>\n'),
    "texts opened": _repeat(_TEXT),
    "texts closed": _repeat("</text>"),
    "texts in a text": _repeat("<text>a</text>", _TEXT, "</text>" + _NUMBERS),
    "fenced texts": _repeat('<text name="code">\n````\nx\n```\n</text>\n'),
    "numbers opened": _repeat("<numbers>", "", "</numbers>"),
    "rationales": _repeat("<rationale></rationale>"),
    "thoughts opened": _repeat("<think>", "", "</think>"),
    "thoughts closed": _repeat("</think>"),
    "thoughts with answers": _repeat(f"{_TEXT}x\n</text>{_NUMBERS}</think>"),
    "thoughts of many names": lambda size: "".join(f"</a{i}b>" for i in range(size // 9)),
    "brackets": _repeat("[" + "a" * 41),
    "channels": _repeat("<|channel|>" + "a" * 61),
    "closed edits": _repeat("</edit> ", _EDIT),
    "edits": _repeat("<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n", "", "</edit>"),
    "entities": _repeat("&lt;", _TEXT, "</text>"),
    "quotes": _repeat("'\\", _TEXT + "&lt;", "</text>"),
    "nested calls": _repeat("f(", _TEXT + "&lt;", "</text>"),
    "minus signs": _repeat("-", _TEXT + "&lt;", "1\n</text>"),
    "sections": _repeat("<![CDATA[\n", _TEXT, "]]>\n</text>"),
}

OBJECTS: dict[str, Callable[[int], str]] = {
    "braces": _repeat("{"),
    "lists": _repeat("[", '{"x":', "}"),
    "digits": _repeat("9", '{"x": ', "}"),
    "digits in a string": _repeat("9", '{"x": "', '"}'),
    "minus signs": _repeat("-", '{"x": ', "1}"),
    "sums": _repeat("+1", '{"x": 1', "}"),
    "backslashes": _repeat("\\", '{"x": "', '"}'),
    "comments": _repeat("/*", '{"x": 1}'),
    "stars": _repeat("*", '{"x": /*', "1}"),
    "quotes": _repeat("'\""),
    "objects": _repeat('{"x": 1} '),
    "names": lambda size: "{" + ",".join(f'"a{i}": 1' for i in range(size // 12)) + "}",
    "tildes": _repeat("~", "\n", '`\n{"x": 0.5}'),
}

STRUCTURED: dict[str, Callable[[int], str]] = {
    **OBJECTS,
    "parts": _repeat('{"numbers": '),
    "a text": _repeat("\\n", '{"numbers": {"x": 0.5}, "texts": {"code": "a', '"}}'),
    "a text not ended": _repeat("\\n", '{"numbers": {"x": 0.5}, "texts": {"code": "a'),
    "many proposals": _repeat('{"numbers": {"x": 2}},', '{"proposals": [', "{}]}"),
    "thoughts": _repeat("<think>{", "", "</think>{"),
    "tags": _repeat("<numbers>", "", "{"),
    "entities": _repeat("{&quot;"),
}
