from __future__ import annotations

import time
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

from optuna_llm.evaluate import Limits
from optuna_llm.evaluate import run_python
from optuna_llm.evaluate._transfer import pack
from optuna_llm.evaluate._transfer import unpack


SANDBOXES = ["auto", "none"]


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_variables_go_in_and_come_back(sandbox: Any) -> None:
    execution = run_python(
        "y = X.sum(axis=0)\nd = {'n': [n, None, True, 'é'], 'm': X.max()}\nprint('ran')",
        inputs={"X": np.arange(6.0).reshape(2, 3), "n": 5},
        outputs=["y", "d"],
        timeout=30,
        sandbox=sandbox,
    )
    assert execution.ok
    assert execution.stdout == "ran\n"
    np.testing.assert_array_equal(execution.values["y"], [3.0, 5.0, 7.0])
    assert execution.values["d"] == {"n": [5, None, True, "é"], "m": 5.0}


@pytest.mark.usefixtures("bubblewrap")
def test_the_traceback_is_the_programs_own() -> None:
    execution = run_python("def f(x):\n    return 1 / x\n\nf(0)", timeout=30)
    assert execution.returncode == 1
    assert execution.feedback.splitlines()[:4] == [
        "It ended with exit code 1.",
        "Traceback (most recent call last):",
        '  File "/candidate/program.py", line 4, in <module>',
        "    f(0)",
    ]
    assert "harness" not in execution.feedback
    assert execution.feedback.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = 1", "the program left no variable 'y'"),
        ("y = object()", "'y' is a object; only None"),
        ("y = {1: 2}", "keys that are not strings"),
        ("y = [[{1, 2}]]", "'y' is a set"),
        ("import numpy; y = numpy.array([object()])", "an array of object"),
        ("y = []\ny.append(y)", "RecursionError"),
        ("def y(:", "SyntaxError"),
        ("raise SystemExit('no')", "no"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ],
)
def test_what_is_no_data_is_a_failure_in_words(code: str, says: str) -> None:
    execution = run_python(code, outputs=["y"], timeout=30)
    assert not execution.ok
    assert execution.values == {}
    assert says in execution.feedback


def test_a_normal_exit_hands_back_too() -> None:
    execution = run_python("y = 1\nraise SystemExit", outputs=["y"], timeout=30)
    assert execution.values == {"y": 1}


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_what_one_run_keeps_the_next_goes_on_with(sandbox: Any) -> None:
    first = run_python(
        "class Model:\n    def predict(self, X):\n        return X * self.factor\n"
        "model = Model()\nmodel.factor = 3",
        keep=["model"],
        timeout=30,
        sandbox=sandbox,
    )
    assert first.ok
    second = run_python(
        "y = model.predict(X)",
        inputs={"X": np.ones(2)},
        kept=first.kept,
        outputs=["y"],
        timeout=30,
        sandbox=sandbox,
    )
    np.testing.assert_array_equal(second.values["y"], [3.0, 3.0])


def test_objects_come_back_only_by_the_name_of_the_danger() -> None:
    execution = run_python("z = {1, 2}\nw = 3j", unpickle_unsafely=["z"], keep=["w"], timeout=30)
    assert execution.values == {"z": {1, 2}}
    assert list(execution.kept.objects) == ["w"]


def test_values_beyond_the_limit_are_a_failure() -> None:
    limits = Limits(result=1_000)
    execution = run_python("y = 'x' * 2000", outputs=["y"], timeout=30, limits=limits)
    assert "more than 1,000 bytes" in execution.feedback


def test_a_time_out_has_no_values() -> None:
    execution = run_python("y = 1\nwhile True: pass", outputs=["y"], timeout=1)
    assert execution.timed_out
    assert execution.values == {}


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([object()]), {1, 2}])
def test_an_input_that_is_no_data_is_an_error_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match="'thing'"):
        run_python("pass", inputs={"thing": value}, timeout=30)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
arrays = hnp.arrays(
    hnp.scalar_dtypes() | hnp.unicode_string_dtypes(), hnp.array_shapes(min_dims=0, max_side=4)
)


@given(st.dictionaries(st.text(), plain | arrays, max_size=3))
def test_data_comes_back_as_it_was(values: dict[str, Any]) -> None:
    back, objects, note = unpack(pack(values, {"o": b"\n\x00"}, {"n": 1}))
    assert (objects, note) == ({"o": b"\n\x00"}, {"n": 1})
    assert back.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_equal(back[name], value)
        if isinstance(value, np.ndarray):
            assert back[name].dtype == value.dtype


heads = st.sampled_from(
    [
        f'{{"plain": 0, "arrays": [["a", {dtype}, {shape}, {size}]], "objects": []}}'
        for dtype, shape, size in [
            ('"<f8"', "[1000000000000]", 8),
            ('"<f8"', "[-1, -1]", 8),
            ('"<f8"', "[1.0]", 8),
            ('"<f8"', "[NaN]", 8),
            ('"<f8"', "[true]", 8),
            ('"<f8"', "[1e400]", 8),
            ('"<f8"', '"1"', 8),
            ('"<f8"', "{}", 8),
            ('"<f8"', str([1] * 33), 8),
            ('"<f8"', f"[0, {2**61}, {2**61}]", 0),
            ('"<f8"', f"[0, 1{0:05000}]", 0),
            ('"|O"', "[1]", 8),
            ('"|V8"', "[1]", 8),
            ('"i4,f8"', "[1]", 12),
            ('"f8:"', "[1]", 8),
            ('"(1000000,1000000)f8"', "[]", 8),
            ('"<U999999999"', "[0]", 0),
            ('"<U1"', "[2]", 8),
            ('"|b1"', "[8]", 8),
            ('"<M8[0s]"', "[1]", 8),
            ('"<M8[999999999as]"', "[1]", 8),
            ("5", "[1]", 8),
            ("null", "[]", 8),
            ('"<f8"', "[1]", '"8"'),
            ('"<f8"', "[1]", -8),
        ]
    ]
    + [
        '{"plain": [], "arrays": 5, "objects": []}',
        '{"plain": 8, "arrays": [], "objects": [[{}, 0]]}',
        '{"plain": 8, "arrays": [1], "objects": ["ab"]}',
        '{"plain": 1e9, "arrays": [], "objects": []}',
        "[]",
        "[" * 9_000,
        "9" * 9_000,
    ]
).map(str.encode)
bodies = st.sampled_from([b"\xff" * 8, b"[{},{}]  ", b"\x00" * 8, b""]) | st.binary()


@given(st.binary() | st.tuples(heads, bodies).map(b"\n".join))
def test_a_damaged_or_hostile_parcel_is_a_value_error_at_most(parcel: bytes) -> None:
    try:
        values, _, _ = unpack(parcel, limit=1_000)
    except ValueError:
        return
    assert all(not isinstance(v, np.ndarray) or v.dtype.kind != "O" for v in values.values())
    repr(values)


def make_parcel(body: bytes) -> bytes:
    return b'{"plain": %d, "arrays": [], "objects": []}\n%s' % (len(body), body)


@pytest.mark.parametrize(
    "piece",
    [b"[],", b'{"":0},', b"[[]],", b'"",', b"0,", b'{"a":"b"},', b'"\\"",', b'["\\\\"],'],
)
def test_many_small_values_are_refused_before_they_take_memory(piece: bytes) -> None:
    limit = 4 * 1024**2
    body = b'[{"x": [%s0]}, {}]' % (piece * (limit // len(piece)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="lists and dicts hold more than 41,943 values"):
            unpack(make_parcel(body), limit=limit)
        # Once as it came, and a few times more for looking at it; parsed it would be 20 times.
        assert tracemalloc.get_traced_memory()[1] < 8 * limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "value", ["a,b" * 500_000, '"[{' * 500_000, "\\" * 500_001, [0.5] * 20_000, {"é": "\ud83d"}]
)
def test_long_texts_and_lists_are_not_mistaken_for_many_values(value: Any) -> None:
    back, _, _ = unpack(pack({"x": value}, {}, {}), limit=16 * 1024**2)
    assert back == {"x": value}


@pytest.mark.parametrize(
    "body",
    [
        b'[{"x": %s}, {}]' % (b"9" * 3_000_000),
        b'[{"x": 0.%s1}, {}]' % (b"0" * 3_000_000),
        b'[{"x": "%s}, {}]' % (b'\\"' * 1_500_000),
        b'[{"x": %s' % (b"[" * 9_000),
        b'[{"x": %s' % (b'{"":' * 2_000),
    ],
    ids=["long int", "long float", "open string", "deep list", "deep dict"],
)
def test_a_slow_parcel_is_refused_at_once(body: bytes) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="not a parcel of values"):
        unpack(make_parcel(body), limit=256 * 1024**2)
    assert time.process_time() - began < 2


def test_arrays_have_as_many_dimensions_as_numpy_has_always_had() -> None:
    value = np.zeros((1,) * 32)
    back, _, _ = unpack(pack({"x": value}, {}, {}))
    assert back["x"].shape == value.shape
    assert back["x"].flags.writeable


def test_an_object_that_does_not_unpickle_here_is_a_failure_in_words() -> None:
    code = "class Odd:\n    def __reduce__(self):\n        return int, ('no number',)\nodd = Odd()"
    execution = run_python(code, unpickle_unsafely=["odd"], timeout=30)
    assert not execution.ok
    assert "'odd' could not be unpickled: ValueError" in execution.feedback
