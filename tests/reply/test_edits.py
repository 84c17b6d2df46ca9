from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import optuna
from provenance import told
import pytest

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import ReplyError
from optuna_llm import suggest_text
from optuna_llm._quoting import clean_text
from optuna_llm._reply.edits import apply_edits
from optuna_llm._reply.edits import Edit
from optuna_llm._reply.edits import parse_edits
from optuna_llm._reply.edits import write_edits
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


TEXT = """\
def f(x):
    y = x + 1
    return y


def g(x):
    y = x + 2
    return y
"""


def edit(*pairs: tuple[str, str]) -> str:
    return apply_edits(TEXT, parse_edits(write_edits([Edit(*pair) for pair in pairs])))


def test_lines_are_replaced_inserted_and_removed() -> None:
    assert edit(("    y = x + 2", "    y = x * 2")) == TEXT.replace("x + 2", "x * 2")
    assert edit(("    y = x + 2\n    return y", "    return x")).endswith("(x):\n    return x\n")
    assert edit(("def g(x):", "# G\ndef g(x):")) == TEXT.replace("def g", "# G\ndef g")
    assert edit(("    y = x + 1", "")) == TEXT.replace("    y = x + 1\n", "")
    both = edit(("    y = x + 2", "    y = 2"), ("    y = x + 1", "    y = 1"))
    assert both == TEXT.replace("x + 1", "1").replace("x + 2", "2")


def test_blanks_are_forgiven_where_only_one_place_can_be_meant() -> None:
    assert edit(("    y = x + 2  ", "    y = 2")) == TEXT.replace("x + 2", "2")
    # Another indentation: what is put there has that of the text.
    assert edit(("y = x + 2", "if x:\n    y = 2")) == TEXT.replace(
        "    y = x + 2", "    if x:\n        y = 2"
    )


FOUND, PUT = "    y = x + 2", "    y = x * 2"
BLOCK = f"<<<<<<< SEARCH\n{FOUND}\n=======\n{PUT}\n>>>>>>> REPLACE"


@pytest.mark.parametrize(
    "source",
    [
        f"```\n{BLOCK}\n```",
        f"```diff\n{BLOCK}\n```",
        f"Change this:\n{BLOCK}\nand no more.",
        BLOCK.replace(" SEARCH", "SEARCH").replace(" REPLACE", "REPLACE"),
        BLOCK.replace(" SEARCH", "").replace(" REPLACE", ""),
        BLOCK.replace("SEARCH", "search").replace("REPLACE", "Replace:"),
        BLOCK.replace("SEARCH", "SEARCH>").replace("REPLACE", "UPDATED"),
        BLOCK.replace("SEARCH", "SEARCH\n:start_line:7\n-------"),
        BLOCK.replace("<<<<<<<", "-------").replace(">>>>>>>", "+++++++"),
        BLOCK.replace("=======", "====="),
        BLOCK.replace("<<<<<<<", "<<<<<").replace("=======", "======").replace(">>", ">", 1),
        BLOCK.replace("<<<<<<<", "<" * 9).replace("=======", "=" * 9).replace(">" * 7, ">" * 9),
        "\n".join(f"    {line}" for line in BLOCK.split("\n")),
        "\n".join(line if line in (FOUND, PUT) else f"  {line}  " for line in BLOCK.split("\n")),
        BLOCK.replace(FOUND, f"\n{FOUND}\n").replace(PUT, f"\n{PUT}\n"),
        BLOCK.replace(FOUND, f"```python\n{FOUND}\n```").replace(PUT, f"```python\n{PUT}\n```"),
        BLOCK.replace(FOUND, f"```\n{FOUND}\n```"),
    ],
)
def test_blocks_as_models_write_them_are_read(source: str) -> None:
    assert apply_edits(TEXT, parse_edits(source, TEXT)) == TEXT.replace("x + 2", "x * 2")


def test_only_the_very_markers_count_in_a_text_that_has_lines_like_them() -> None:
    text = "Title\n=====\nwords\n"
    edits = parse_edits(write_edits([Edit("=====\nwords", "=====\nmore")]), text)
    assert apply_edits(text, edits) == "Title\n=====\nmore\n"
    with pytest.raises(ReplyError, match="has 0 lines '======='"):
        parse_edits("<<<<<<< SEARCH\nTitle\n=====\nwords\n>>>>>>> REPLACE", text)
    with pytest.raises(ReplyError, match="outside of its blocks"):
        parse_edits("<<<<<< SEARCH\nTitle\n=======\nTitles\n>>>>>> REPLACE", text)


def test_entities_are_decoded_where_the_lines_are_found_only_so() -> None:
    edits = [Edit("if a &lt; b:", "if a &lt;= b:")]
    assert apply_edits("if a < b:\n    pass", edits) == "if a <= b:\n    pass"
    assert apply_edits("if a &lt; b:", edits) == "if a &lt;= b:"


@pytest.mark.parametrize(
    ("text", "edit", "edited"),
    [
        ("a\u200bb\nc", Edit("a\\u200bb", "a\\u200bB"), "a\u200bB\nc"),
        ("a\u2028b", Edit("a\\u2028b", "b"), "b"),
        ("a\U000e0041\nb", Edit("b", "c"), "a\U000e0041\nc"),
        ("a\rb", Edit("a\\rb", "a\\rB"), "a\rB"),
        ("a\\u200bb", Edit("a\\u200bb", "a\\u200bB"), "a\\u200bB"),
        ("print('\\r')\r\nb\r\n", Edit("print('\\r')", "f('\\r')\ng"), "f('\\r')\r\ng\r\nb\r\n"),
    ],
)
def test_what_is_shown_as_an_escape_is_kept_in_lines_that_change(
    text: str, edit: Edit, edited: str
) -> None:
    assert apply_edits(text, [edit], lambda line: clean_text(line.removesuffix("\r"))) == edited


def test_an_escape_that_may_be_a_character_or_itself_is_refused() -> None:
    edits = [Edit("a\\u200b\\u200b", "\\u200b")]
    with pytest.raises(ReplyError, match="stands for two things"):
        apply_edits("a\u200b\\u200b", edits, clean_text)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([("    return y", "    return x")], r"block 1 of <edit> stand in the text 2 times"),
        ([("return y", "return x")], r"stand in the text 2 times: give more lines"),
        ([("def f(x):", "def h(x):"), ("y = z", "")], r"block 2 of <edit> are not in the text"),
        ([("    y = x + 3\n    return y", "")], r"closest lines there are:\n    y = x \+ "),
        ([("def f(x):\n    y = x + 1", ""), ("    y = x + 1", "")], "two blocks.*change line 2"),
        ([("    y = x + 1", "    y = x + 1")], "change nothing"),
        ([("", "x")], "looks for nothing"),
        ([(" \n", "x")], "looks for nothing"),
    ],
)
def test_what_can_not_be_told_is_refused_and_named(pairs: Any, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        edit(*pairs)


@pytest.mark.parametrize("marker", ["<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE  "])
def test_a_text_that_holds_a_marker_of_blocks_is_asked_for_whole(marker: str) -> None:
    with pytest.raises(ReplyError, match=f"holds a line '{marker.rstrip()}': send it whole"):
        apply_edits(f"a\n{marker}\nb", [Edit("a", "c")])


def test_a_block_that_quotes_blocks_is_not_taken_for_them() -> None:
    quoted = "a\n=======\n>>>>>>> REPLACE\n<<<<<<< SEARCH\nb"
    with pytest.raises(ReplyError, match="send it whole"):
        apply_edits(quoted, parse_edits(write_edits([Edit(quoted, "")])))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "holds no block"),
        ("a\nb", "holds no block"),
        ("<<<<<<< SEARCH\na\n=======\n>>>>>>> REPLACE\n>>>>>>> REPLACE", "outside of its blocks"),
        ("<<<<<<< SEARCH\na\n=======\nb", "does not end"),
        ("<<<<<<< SEARCH\na\n>>>>>>> REPLACE", "has 0 lines '=======' where one is needed"),
        ("<<<<<<< SEARCH\na\n=======\nb\n=======\nc\n>>>>>>> REPLACE", "has 2 lines"),
        ("<<<<<<< SEARCH\na\n<<<<<<< SEARCH\n=======\n>>>>>>> REPLACE", "a second line"),
    ],
)
def test_blocks_that_can_be_read_in_two_ways_are_refused(source: str, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        parse_edits(source)


line = st.text(st.sampled_from("ab =<>\t"), max_size=4) | st.sampled_from(
    ["=======", "<<<<<<< SEARCH", ">>>>>>> REPLACE", "\x0b", "x\r", "\u2028"]
)


@given(st.lists(line, min_size=1, max_size=12), st.data())
def test_edits_make_the_text_that_was_meant_or_are_refused(lines: list[str], data: Any) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(lines)), max_size=6)))
    cuts = cuts[: len(cuts) // 2 * 2]
    meant: list[str] = []
    edits = []
    end = 0
    for start, stop in zip(cuts[::2], cuts[1::2], strict=True):
        new = data.draw(st.lists(line, max_size=3))
        if new == [""]:
            new = []  # An empty line cannot be told from none.
        edits.append(Edit("\n".join(lines[start:stop]), "\n".join(new)))
        meant += [*lines[end:start], *new]
        end = stop
    meant += lines[end:]
    order = data.draw(st.permutations(edits))
    try:
        edited = apply_edits("\n".join(lines), parse_edits(write_edits(order)))
    except ReplyError:
        return
    assert edited == "\n".join(meant)


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=2, max_size=12, unique=True),
    st.data(),
)
def test_lines_that_differ_can_always_be_edited(lines: list[str], data: Any) -> None:
    at = data.draw(st.integers(0, len(lines) - 1))
    edits = [Edit(lines[at], "new")]
    edited = apply_edits("\n".join(lines), parse_edits(write_edits(edits)))
    assert edited == "\n".join([*lines[:at], "new", *lines[at + 1 :]])


PROGRAM = "".join(f"def step_{i}(x):\n    return x * {i} + 0.5\n\n\n" for i in range(40))


def halves(trial: optuna.Trial) -> float:
    return suggest_text(trial, "code", PROGRAM, language="python").count("0.5")


def answer(search: str, replace: str, of: object = "") -> str:
    blocks = write_edits([Edit(search, replace)])
    where = f' of="{of}"' if of != "" else ""
    return f'<rationale>R.</rationale>\n<edit name="code"{where}>\n{blocks}\n</edit>'


def run(replies: list[str], n_trials: int, **arguments: Any) -> tuple[optuna.Study, ScriptedModel]:
    model = ScriptedModel(replies)
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=1, **arguments))
    study.optimize(halves, n_trials=n_trials, catch=ReplyError)
    return study, model


def test_a_long_text_may_be_answered_with_edits_of_a_trials_text() -> None:
    replies = [
        answer("    return x * 7 + 0.5", "    return x * 7"),
        answer("    return x * 8 + 0.5", "    return x * 8", of="trial 0"),
    ]
    study, model = run(replies, 3)
    texts = [get_texts(t)["code"] for t in study.trials]
    assert texts[1] == PROGRAM.replace("x * 7 + 0.5", "x * 7")
    assert texts[2] == PROGRAM.replace("x * 8 + 0.5", "x * 8")
    assert [told(t, "parent") for t in study.trials[1:]] == [0, 0]
    assert '<edit name="code" of="number of the trial' in model.calls[0][0].content


def test_an_edit_that_cannot_be_made_goes_back_with_the_closest_lines() -> None:
    replies = [
        answer("    return x * 7 - 0.5", "    return x * 7", of=0),
        answer("    return x * 7 + 0.5", "    return x * 7", of=99),
        answer("    return x * 7 + 0.5", "    return x * 7", of=0),
    ]
    study, model = run(replies, 2)
    assert study.trials[1].value == 39
    assert "```\n    return x * 7 + 0.5\n```" in model.calls[1][1].content
    assert 'there is no "code" in trial 99' in model.calls[2][1].content


@pytest.mark.parametrize("form", ["{}", "```\n{}\n```", '<text name="code">\n{}\n</text>'])
def test_edits_without_their_tag_are_made_to_the_text_that_the_request_starts_from(
    form: str,
) -> None:
    blocks = write_edits([Edit("    return x * 7 + 0.5", "    return x * 7")])
    study, _ = run([form.format(blocks)], 2)
    assert get_texts(study.trials[1])["code"] == PROGRAM.replace("x * 7 + 0.5", "x * 7")
    # Where edits were not offered they are no program, either.
    study, _ = run([form.format(blocks)] * 3, 2, edits="never")
    assert "cannot be edited" in told(study.trials[1], "error")


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer("    return x * 7 + 0.5", "```\n    return x\n```", of=0), "there hold a fence"),
        (
            answer("    return x * 7 + 0.5", "x", of="best"),
            'of="best" of <edit> is not the number',
        ),
        (answer("a", "b", of=0).replace("</edit>", ""), "<edit> is not closed: its last lines"),
        (
            answer("    return x * 7 + 0.5", "x", of=0) + write_reply(texts={"code": "a"}),
            "two diff",
        ),
    ],
)
def test_an_edit_that_is_in_doubt_is_refused(reply: str, says: str) -> None:
    study, _ = run([reply] * 3, 2)
    assert says in told(study.trials[1], "error")


def test_a_model_that_fails_at_edits_is_asked_for_whole_texts() -> None:
    bad = answer("nothing like it", "x", of=0)
    study, model = run([bad, bad, bad, write_reply(texts={"code": "0.5"})], 3)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    offered = ["<edit " in system.content for system, _ in model.calls]
    assert offered == [True, True, True, False]


@pytest.mark.parametrize(
    ("edits", "initial", "is_offered", "is_whole_offered"),
    [
        ("auto", "short", False, True),
        ("auto", PROGRAM, True, True),
        ("never", PROGRAM, False, True),
        ("always", "short", True, False),
    ],
)
def test_edits_are_offered_as_the_user_wants(
    edits: Any, initial: str, is_offered: bool, is_whole_offered: bool
) -> None:
    model = ScriptedModel([write_reply(texts={"code": "a"})])
    study = optuna.create_study(sampler=LLMSampler(model=model, edits=edits))
    study.optimize(lambda t: len(suggest_text(t, "code", initial)), n_trials=2)
    system = model.calls[0][0].content
    assert ("<edit " in system) == is_offered
    assert ("<text " in system) == is_whole_offered
    with pytest.raises(ValueError, match="edits must be one of auto, always, never: 'often'"):
        LLMSampler(model="offline", edits="often")  # type: ignore[arg-type]


def test_edits_that_were_not_offered_are_refused() -> None:
    study, _ = run([answer("    return x * 7 + 0.5", "", of=0)] * 3, 2, edits="never")
    assert "cannot be edited: send <text" in told(study.trials[1], "error")


def test_an_edit_leaves_alone_what_is_shown_as_an_escape() -> None:
    start = "a = 1\r\nb = '\x1b'\r\n" + "pass\r\n" * 400
    model = ScriptedModel([answer("a = 1", "a = 2", of=0)])
    study = optuna.create_study(sampler=LLMSampler(model=model))
    study.optimize(lambda t: len(suggest_text(t, "code", start)), n_trials=2)
    assert get_texts(study.trials[1])["code"] == start.replace("a = 1", "a = 2")
