from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from optuna.study import StudyDirection
import pytest

from optuna_llm import ReplyError
from optuna_llm._records import Problem
from optuna_llm._records import TextParameter
from optuna_llm._reply.proposals import parse_reply
from optuna_llm.testing import write_reply


CODE = "def f(x):\n    if x < 2 and x > 0:\n        return x & 1"
ESCAPED = CODE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
DOCUMENTED = f'"""F.\n\n```\nf(1)\n```\n"""\n{CODE}'


def read(text: str, language: str | None = "python", initial: str | None = "def f(): pass") -> str:
    parameter = TextParameter("code", language=language, initial=initial)
    problem = Problem("", [("value", StudyDirection.MINIMIZE)], {}, [parameter])
    (proposal,) = parse_reply(f'<text name="code">\n{text}\n</text>', problem)
    return proposal.texts["code"]


WRAPPERS = [
    "```python\n{}\n```",
    "````\n{}\n````",
    "~~~ py\n{}\n~~~",
    "  ```\n{}\n  ```",
    "<![CDATA[\n{}\n]]>",
    "<![CDATA[{}]]>",
    "<![CDATA[\n```python\n{}\n```\n]]>",
    "```xml\n<![CDATA[\n{}\n]]>\n```",
]
CERTAIN = [
    "```python\n{}",
    "{}\n```",
    "Here it is:\n```python\n{}\n```\nThat is all.",
    "<code>\n{}\n</code>",
    '<python version="3">{}</python>',
    "<think>hm</think>\n{}",
]


@pytest.mark.parametrize("wrapper", [*WRAPPERS, *CERTAIN])
def test_a_wrapper_is_taken_off_a_program(wrapper: str) -> None:
    for code in (CODE, "x = 1"):
        assert read(wrapper.format(code)) == code


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_is_taken_off_where_no_parser_is_needed_to_tell(wrapper: str) -> None:
    assert read(wrapper.format(CODE), "rust") == CODE
    assert read(wrapper.format("{}"), "json", "[]") == "{}"


@pytest.mark.parametrize("wrapper", CERTAIN[:3])
@pytest.mark.parametrize("language", ["rust", "html"])
def test_what_stands_beside_a_fence_is_refused_where_no_parser_helps(
    wrapper: str, language: str
) -> None:
    with pytest.raises(ReplyError, match="holds fences beside the text"):
        read(wrapper.format(CODE), language)


def test_fences_of_a_programs_own_are_kept() -> None:
    for fenced in (DOCUMENTED, f"```python\n{DOCUMENTED}\n```", f"````\n{DOCUMENTED}\n````"):
        assert read(fenced) == DOCUMENTED
    assert read("```\na\n```\nthen\n```\nb\n```", "markdown") == "```\na\n```\nthen\n```\nb\n```"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (ESCAPED, CODE),
        (f"```python\n{ESCAPED}\n```", CODE),
        ("print(&quot;a&quot;, &#39;b&apos;)", "print(\"a\", 'b')"),
        # This is Python, and nonsense.
        ("y = x &lt; 2", "y = x < 2"),
        ('if a &lt; b: s = "&amp;lt;"', 'if a < b: s = "&lt;"'),
        # What makes sense as it is stays so.
        ('s = html.replace("&lt;", "<")', 's = html.replace("&lt;", "<")'),
        ("# &lt;\nx = 1", "# &lt;\nx = 1"),
    ],
)
def test_entities_are_decoded_where_a_program_makes_no_sense_with_them(
    written: str, meant: str
) -> None:
    assert read(written) == meant


@pytest.mark.parametrize(
    ("text", "language", "says"),
    [
        (ESCAPED + "\nz = 1 < 2", "python", "holds &lt;"),
        ("y = a &amp;&amp; b", "python", "holds &amp;"),
        (f"<![CDATA[\n{CODE}", "python", r"holds <!\[CDATA\["),
        (f"Here: <![CDATA[\n{CODE}\n]]>", "python", r"holds <!\[CDATA\["),
        ("```\nx = 1\n```\nor\n```\nx = 2\n```", "python", "holds a fence"),
        ("```diff\n+x = 1\n```", "python", "holds a fence"),
        (f'"""\n{CODE}\n"""', "python", "one value, and no program"),
        ('{"code": "x = 1"}', "python", "one value, and no program"),
        (ESCAPED, "rust", "holds &lt;: send characters as they are"),
        (f"```rust\n{ESCAPED}\n```", "rust", "holds &lt;"),
        (f"<![CDATA[\n{CODE}", "rust", "does not end with ]]>"),
        ("<![CDATA[\nBe kind.", None, "does not end with ]]>"),
        ("<code>fn f() {}</code>", "rust", "begins with <code>"),
    ],
)
def test_what_may_be_a_wrapper_is_never_run(text: str, language: str | None, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        read(text, language)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("def f(:", "python"),
        ("f(&lt)", "python"),
        ('print("&lt;")', "javascript"),
        ("if (a < b && c) {}", "c"),
        ("<p>1 &lt; 2</p>", "html"),
        ("Write &lt; for <, as in ```a &lt; b```.", None),
        ("<b>1 &amp; 2</b>", "markdown"),
    ],
)
def test_a_text_without_a_wrapper_is_left_alone(text: str, language: str | None) -> None:
    assert read(text, language) == text


def test_a_program_is_known_by_its_fence_or_the_first_text_where_no_language_is_given() -> None:
    fenced = f"```python\n{DOCUMENTED}\n```"
    assert read(fenced, None, None) == DOCUMENTED
    assert read(ESCAPED, None) == CODE
    assert read(f"<code>\n{CODE}\n</code>", None) == CODE
    # Prose is not: nothing is refused for not being a program, and nothing decoded.
    for text in ("Use &lt; here.", "```\na", "<b>Be kind.</b>"):
        assert read(text, None, "Note: be kind.") == text
    assert read("Use &lt; here.", None) == "Use &lt; here."


def test_an_escaped_document_or_reply_is_decoded_as_a_whole() -> None:
    assert read("&lt;p&gt;1 &amp;lt; 2&lt;/p&gt;", "html") == "<p>1 &lt; 2</p>"
    problem = Problem("", [("value", StudyDirection.MINIMIZE)], {}, [TextParameter("code")])
    escaped = '&lt;text name="code"&gt;\n1 &lt; 2\n&lt;/text&gt;'
    assert parse_reply(escaped, problem)[0].texts["code"] == "1 < 2"


def test_a_program_that_is_wrong_in_its_fence_is_run_and_told_so() -> None:
    assert read("```python\ndef f(:\n```") == "def f(:"


pieces = st.sampled_from(
    [
        '<text name="code">',
        "<text>",
        "</text>",
        "<numbers>",
        "</proposal>",
        "<think>",
        "</think>",
        "```",
        "````python",
        "\n",
        "\n    ",
        "<<<<<<< SEARCH",
        "=======",
        ">>>>>>> REPLACE",
        "</edit>",
        "<![CDATA[",
        "]]>",
        "]]]]><![CDATA[>",
        "&lt;",
        "&amp;lt;",
        "'",
        '"',
        "{",
        "<|end|>",
        "</code>",
        "a = 1",
    ]
)


characters = st.characters(exclude_characters="\r\x00", exclude_categories=["Cs"])


@given(
    st.lists(pieces | characters, min_size=1, max_size=12).map("".join),
    st.sampled_from([None, "markdown", "english"]),
    st.sampled_from([None, "a", "```\na\n```"]),
)
def test_prose_is_read_as_it_was_written_whatever_it_holds(
    text: str, language: str | None, initial: str | None
) -> None:
    parameter = TextParameter("code", language=language, initial=initial)
    problem = Problem("", [("value", StudyDirection.MINIMIZE)], {}, [parameter])
    if text.strip():
        (proposal,) = parse_reply(write_reply(texts={"code": text}), problem)
        assert proposal.texts["code"] == text


@given(st.lists(pieces, max_size=8).map("".join))
def test_a_program_is_read_as_it_was_written_whatever_its_strings_hold(inside: str) -> None:
    code = f"def f(x):\n    return x < {inside!r} and x > {inside.encode()!r}"
    reply = write_reply(texts={"code": code})
    assert read(reply.split('<text name="code">\n')[1].removesuffix("\n</text>")) == code
