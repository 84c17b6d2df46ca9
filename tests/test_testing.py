from __future__ import annotations

import pytest

from optuna_llm import Completion
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm.testing import ScriptedModel


MESSAGES = (Message("system", "s"), Message("user", "u"))


def test_the_replies_come_in_order_and_the_calls_are_kept() -> None:
    model = ScriptedModel(["one", Completion("two", "m"), ModelError("three")])
    assert model.complete(MESSAGES).text == "one"
    assert model.complete(MESSAGES) == Completion("two", "m")
    with pytest.raises(ModelError, match="three"):
        model.complete(MESSAGES)
    assert model.calls == [MESSAGES] * 3
    with pytest.raises(LookupError, match="no reply to call 4"):
        model.complete(MESSAGES)


def test_a_function_may_write_the_script() -> None:
    model = ScriptedModel(lambda messages: messages[1].content * 2)
    assert model.complete(MESSAGES).text == "uu"
