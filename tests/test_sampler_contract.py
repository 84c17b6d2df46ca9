"""Optuna's own contract for samplers, with a sensible model and with one that talks nonsense."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase
from optuna.testing.pytest_samplers import MultiObjectiveSamplerTestCase
from optuna.testing.pytest_samplers import RelativeSamplerTestCase
import pytest

from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import OfflineModel
from optuna_llm.testing import ScriptedModel


def talk_nonsense(messages: Sequence[Message]) -> str:
    return f"I had rather talk about the weather. <numbers>{{{len(messages[1].content)}"


def make_sensible() -> BaseSampler:
    return LLMSampler(model=OfflineModel(0), seed=0)


def make_nonsense() -> BaseSampler:
    return LLMSampler(model=ScriptedModel(talk_nonsense), seed=0)


class TestContract(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture(
        params=[
            pytest.param(make_sensible, id="sensible"),
            pytest.param(make_nonsense, id="nonsense", marks=pytest.mark.slow),
        ]
    )
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        make: Callable[[], BaseSampler] = request.param
        return make
