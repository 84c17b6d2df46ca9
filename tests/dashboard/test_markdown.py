from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
import pytest

from optuna_llm._quoting import clean_text
from optuna_llm.dashboard._markdown import escape
from optuna_llm.dashboard._markdown import fold
from optuna_llm.dashboard._markdown import show_block
from optuna_llm.dashboard._markdown import table


PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def is_visible(text: str) -> bool:
    """Whether nothing of a text is shown as an escape."""
    return text.isprintable() and text == clean_text(text)


def parse(source: str) -> Iterator[Token]:
    """The tokens of some Markdown, apart from those that open and close paragraphs."""
    for token in PARSER.parse(source):
        if token.type == "inline":
            yield from token.children or ()
        elif token.type not in ("paragraph_open", "paragraph_close"):
            yield token


PIECES = """\
` `` * _ ~~ <b> <!-- &amp; \\ | # - 1. > === --- a <https://x.y> http://x.y www.x.y a@b.c
![a](http://x.y/z.png) [a](javascript:alert(1)) [a]:"""

words = st.text(st.characters(codec="utf-8")) | st.lists(
    st.sampled_from([*PIECES.split(), " ", "\n", "\t", "[//]: # (end)"]), max_size=12
).map("".join)


@given(words)
def test_any_text_is_shown_verbatim_as_prose(text: str) -> None:
    shown = list(parse(f"> {escape(text)}"))
    kinds = {token.type for token in shown}
    assert kinds <= {"text", "code_inline", "blockquote_open", "blockquote_close"}
    content = "".join(token.content for token in shown if token.type in ("text", "code_inline"))
    if is_visible(text) and len(text) < 600 and max(map(len, ["", *text.split()])) <= 80:
        assert content == " ".join(text.split())


@given(words)
def test_an_address_is_code_rather_than_a_link(text: str) -> None:
    for token in parse(escape(text)):
        if token.type == "text":
            assert "http://x" not in token.content
            assert "www.x" not in token.content


@given(words, st.sampled_from(["python", None, "a b", "`", "c++"]))
def test_a_block_contains_the_whole_text(text: str, language: str | None) -> None:
    source = show_block(text, language, 10_000)
    fences = [token for token in PARSER.parse(source) if token.type == "fence"]
    assert [token.info for token in fences] == ["python" if language == "python" else "text"]
    assert len(list(parse(source))) == 1
    if is_visible(text):
        assert fences[0].content == text + "\n"


@given(st.lists(words, min_size=2, max_size=2))
def test_no_text_breaks_out_of_its_table_cell(cells: list[str]) -> None:
    source = table(["a", "b:"], [[escape(cell, 50) for cell in cells]])
    assert sum(token.type == "td_open" for token in PARSER.parse(source)) == 2


@pytest.mark.parametrize(("language", "width"), [(None, 110), ("python", 300)])
def test_long_lines_are_broken_without_loss(language: str | None, width: int) -> None:
    text = "ab" * 400 + "\n\nc"
    folded = fold(text, language).split("\n")
    assert max(map(len, folded)) == width
    assert "".join(folded) == text.replace("\n", "")
    assert folded[-2:] == ["", "c"]


def test_a_text_that_is_too_long_loses_its_middle() -> None:
    shown = show_block(fold("x" * 1_000_000, None), None, 2_000)
    assert "the middle is left out" in shown
    assert len(shown) < 2_100


@pytest.mark.parametrize("text", ["\x1b[31mred", "\u202etfel", "\u2028line", "\U000e0041tag"])
def test_invisible_characters_are_shown_as_escapes(text: str) -> None:
    assert text[0] not in escape(text)
    assert text[0] not in show_block(text, None, 100)
