from __future__ import annotations

from random import Random
import re

from hypothesis import given
from hypothesis import strategies as st
import pytest

from optuna_llm._quoting import clean_text
from optuna_llm._quoting import diff_texts
from optuna_llm._quoting import shorten


@pytest.mark.parametrize(
    "hidden",
    [
        *"\x00\x1b\x7f\x85\x0b\x0c",
        *"\u2028\u2029",  # Line separators.
        *"\u200b\u200c\u200d\u2060\ufeff\xad\u180e\u3164",  # Blanks without width.
        *"\u061c\u200e\u200f\u202a\u202e\u2066\u2069",  # Directions of writing.
        *"\ufe00\U000e0100",  # Selectors, which can be strung together to a message.
        *"\U000e0001\U000e0041\U000e007f",  # Tags: letters that nobody sees.
        *"\U0001d173\ufffa\ud800",
    ],
)
def test_characters_that_cannot_be_seen_are_shown_as_escapes(hidden: str) -> None:
    shown = clean_text(f"a{hidden}b")
    assert re.fullmatch(r"a\\(x..|u....|U........)b", shown)
    assert shown.encode().decode("unicode_escape") == f"a{hidden}b"


def test_what_can_be_seen_is_shown_as_it_is() -> None:
    text = "tab\t, line\n, \u00e9\u00df, \u6587\u5b57, \u0639\u0631\u0628\u064a, \u2764\ufe0f"
    assert clean_text(text) == text


def apply(old: str, diff: str) -> list[str]:
    """The new lines that a diff makes of the old ones."""
    lines = [line.rstrip() for line in old.splitlines()]
    made: list[str] = []
    position = 0
    for line in diff.split("\n"):
        if head := re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+.* @@", line):
            start = int(head[1]) - (head[2] != "0")
            made += lines[position:start]
            position = start
        elif line[:1] == "+":
            made.append(line[1:])
        elif line:
            assert lines[position] == line[1:]
            made += [line[1:]] if line[0] == " " else []
            position += 1
    return made + lines[position:]


def test_a_diff_shows_what_changes_with_a_line_around_it() -> None:
    old = "a\nb\nc\nd\ne\nf\ng\nh\n"
    assert diff_texts(old, old.replace("b\n", "B\n").replace("h\n", "")) == (
        "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n@@ -7,2 +7 @@\n g\n-h"
    )
    assert diff_texts("", "a") == "@@ -0,0 +1 @@\n+a"
    assert diff_texts(old, old.replace("\n", " \n")) == ""


line = st.sampled_from(["a", "b", "c", "", "  d"]) | st.integers(0, 30).map(str)


@given(st.lists(line, max_size=30), st.lists(line, max_size=30))
def test_a_diff_makes_the_new_text_of_the_old(old: list[str], new: list[str]) -> None:
    diff = diff_texts("\n".join(old), "\n".join(new))
    assert apply("\n".join(old), diff) == [x.rstrip() for x in "\n".join(new).splitlines()]


@given(st.randoms(use_true_random=False), st.integers(0, 40))
def test_a_diff_of_long_texts_makes_the_new_one_too(random: Random, changes: int) -> None:
    old = [str(i % 700) for i in range(900)]
    new = list(old)
    for _ in range(changes):
        at = random.randrange(len(new))
        new[at : at + random.randrange(3)] = ["new"] * random.randrange(3)
    assert apply("\n".join(old), diff_texts("\n".join(old), "\n".join(new))) == new


def test_what_is_too_long_is_cut_at_the_ends_of_lines_and_keeps_its_last() -> None:
    lines = [f"line number {i} of the text" for i in range(100)]
    kept = shorten("\n".join(lines), 500).splitlines()
    (mark,) = (i for i, line in enumerate(kept) if "characters in all" in line)
    assert kept[:mark] == lines[:mark]
    assert kept[mark + 1 :] == lines[mark + 1 - len(kept) :]


@given(st.text("ab\n", max_size=300), st.integers(60, 300))
def test_what_is_cut_is_as_long_as_allowed_and_not_much_shorter(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit
    assert len(short) >= min(len(text), 55 + (limit - 55) // 4)
    assert short[-1:] == text[-1:]
