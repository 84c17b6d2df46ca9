"""The rule by which proposers share the trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
import random

from hypothesis import given
from hypothesis import strategies as st

from optuna_llm import Candidate
from optuna_llm import Turn
from optuna_llm._proposing.credit import choose_by_credit
from optuna_llm._proposing.credit import count_rest
from optuna_llm._proposing.credit import measure_progress


BASE = Candidate("base", is_model=False)
BIG, SMALL = Candidate("big"), Candidate("small")


def play(
    candidates: Sequence[Candidate], reward: Callable[[str, random.Random], float], count: int
) -> list[str]:
    """Who proposes: a trial is good, and gains, as the reward of its proposer says."""
    turns: list[Turn] = []
    rng = random.Random(0)
    for number in range(count):
        name = choose_by_credit(turns, candidates, random.Random(f"0 {number}"))[0]
        gain = reward(name, rng)
        turns.append(Turn(number, name, 0.0 if gain else rng.random(), gain))
    return [str(turn.proposer) for turn in turns]


def test_the_base_sampler_gets_no_trial_while_the_model_gains() -> None:
    played = play([BIG, BASE], lambda name, _: 1.0, 40)
    assert played[:20] == ["big"] * 20
    assert played.count("base") <= 4


def test_the_base_sampler_is_tried_once_the_model_has_gained_nothing_for_a_while() -> None:
    played = play([BIG, BASE], lambda *_: 0.0, 60)
    assert played[:8] == ["big"] * 8
    assert 10 < played.count("base") < 50


def test_the_base_sampler_takes_over_from_a_model_that_is_worse() -> None:
    def reward(name: str, rng: random.Random) -> float:
        return float(rng.random() < (0.3 if name == "base" else 0.02))

    played = play([BIG, BASE], reward, 100)
    assert played[40:].count("base") > 45


def test_a_model_that_is_stuck_does_not_keep_the_base_sampler_out() -> None:
    turns: list[Turn] = []
    for number in range(100):
        # What the model proposes is good, and never better.
        name = choose_by_credit(turns, [BIG, BASE], random.Random(number))[0]
        turns.append(Turn(number, name, 0.1 if name == "big" else 0.9))
    assert sum(turn.proposer == "base" for turn in turns[20:]) > 20


def test_small_steps_beside_the_best_do_not_pass_for_success() -> None:
    def reward(name: str, rng: random.Random) -> float:
        return 0.01 if name == "big" else 5.0 * (rng.random() < 0.9)

    turns = [Turn(number, "big", 0.0, 1.0 if number == 1 else 0.001) for number in range(20)]
    assert 0 < measure_progress(turns, ["big"]) < 0.02
    played = Counter(play([BIG, BASE], reward, 120)[70:])
    assert played["base"] > played["big"]


def test_models_share_by_what_they_gain() -> None:
    def reward(name: str, rng: random.Random) -> float:
        return float(rng.random() < (0.5 if name == "big" else 0.1))

    played = Counter(play([BIG, SMALL], reward, 200))
    assert played["big"] > 3 * played["small"] > 0


def test_a_dear_model_must_be_worth_its_cost() -> None:
    def reward(name: str, rng: random.Random) -> float:
        return float(rng.random() < (0.5 if name == "big" else 0.4))

    dear = [Candidate("big", cost=10.0), Candidate("small", cost=1.0)]
    same = [Candidate("big", cost=0.0), Candidate("small", cost=0.0)]
    assert Counter(play(dear, reward, 200))["big"] < 50
    assert Counter(play(same, reward, 200))["big"] > 80


def test_a_model_without_cost_so_far_counts_as_an_average_one() -> None:
    candidates = [Candidate("big", cost=4.0), Candidate("small")]
    played = Counter(play(candidates, lambda *_: 1.0, 100))
    assert min(played.values()) > 25


def test_the_draw_belongs_to_the_trial() -> None:
    turns = [Turn(number, "big", 0.5) for number in range(20)]
    candidates = [BIG, SMALL, BASE]
    orders = [choose_by_credit(turns, candidates, random.Random(7)) for _ in range(3)]
    assert orders[0] == orders[1] == orders[2]
    turns = [Turn(number, ("big", "small")[number % 2], 0.1, 1.0) for number in range(20)]
    drawn = {choose_by_credit(turns, [BIG, SMALL], random.Random(i))[0] for i in range(50)}
    assert drawn == {"big", "small"}


def test_a_model_that_failed_rests_twice_as_long_with_each_failure_in_a_row() -> None:
    failed = [Turn(0, "small", 0.5, failed=["big"])]
    fine = [Turn(1, "small", 0.5)]
    assert count_rest(failed, "big") == 2
    assert count_rest(failed + fine, "big") == 1
    assert count_rest(failed + 2 * fine, "big") == 0
    assert count_rest(2 * failed, "big") == 4
    assert count_rest(20 * failed, "big") == 32
    assert count_rest(2 * failed + [Turn(2, "big", 0.5)] + failed, "big") == 2
    assert count_rest(failed, "small") == 0
    for seed in range(20):
        order = choose_by_credit(failed, [BIG, SMALL], random.Random(seed))
        assert order == ["small", "big"]


names = st.sampled_from(["big", "small", "base", "a stranger", None])
turns_of_any_kind = st.lists(
    st.builds(
        Turn,
        st.integers(0, 100),
        names,
        st.none() | st.floats(0, 1),
        st.floats(0, 1e300),
        st.lists(st.sampled_from(["big", "small"]), max_size=2),
        st.lists(st.sampled_from(["big", "small"]), max_size=1),
    ),
    max_size=60,
)


@given(turns_of_any_kind, st.floats(0, 1e9), st.integers(0, 9))
def test_each_candidate_is_in_the_order_once(turns: list[Turn], cost: float, seed: int) -> None:
    candidates = [Candidate("big", cost=cost), Candidate("small", cost=1.0), BASE]
    order = choose_by_credit(turns, candidates, random.Random(seed))
    assert sorted(order) == ["base", "big", "small"]
