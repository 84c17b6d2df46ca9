"""The property tests, with as many examples as five minutes allow. Run by hand:

python tests/fuzz.py [EXAMPLES] [SECONDS]
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
import sys
import time


TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS / room) for room in (".", "dashboard", "models", "prompt", "reply")]

from hypothesis import HealthCheck
from hypothesis import settings
import test_edits
import test_faults
import test_markdown
import test_prompt
import test_quoting
import test_reply
import test_several
import test_structured
import test_thoughts
import test_wrapping


PROPERTIES = [
    test_reply.test_any_text_is_a_proposal_or_a_reply_error,
    test_reply.test_any_mix_of_tags_is_a_proposal_or_a_reply_error,
    test_reply.test_any_mix_of_tags_is_read_or_refused_where_more_is_allowed,
    test_several.test_any_reply_to_several_is_read_or_refused,
    test_structured.test_any_json_and_any_text_is_a_proposal_or_a_reply_error,
    test_reply.test_any_values_are_valid_or_refused,
    test_edits.test_edits_make_the_text_that_was_meant_or_are_refused,
    test_edits.test_lines_that_differ_can_always_be_edited,
    test_reply.test_every_value_within_its_distribution_is_read_unchanged,
    test_reply.test_every_text_comes_back_as_it_was_written,
    test_thoughts.test_no_mix_of_thoughts_and_answers_yields_what_none_of_them_says,
    test_wrapping.test_prose_is_read_as_it_was_written_whatever_it_holds,
    test_wrapping.test_a_program_is_read_as_it_was_written_whatever_its_strings_hold,
    test_quoting.test_a_diff_makes_the_new_text_of_the_old,
    test_prompt.test_whatever_a_candidate_wrote_the_prompt_keeps_its_structure,
    test_prompt.test_whatever_the_last_reply_was_the_prompt_keeps_its_structure,
    test_markdown.test_any_text_is_shown_verbatim_as_prose,
    test_markdown.test_an_address_is_code_rather_than_a_link,
    test_markdown.test_a_block_contains_the_whole_text,
    test_markdown.test_no_text_breaks_out_of_its_table_cell,
    test_faults.test_any_answer_is_an_error_that_can_be_acted_on,
]
BATCH = 1_000


def main(examples: int = 200_000, seconds: float = 300) -> None:
    """Run the properties in turn until either limit; an example that fails is raised."""
    profile = settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    tests = [profile(test) for test in PROPERTIES]
    began = time.monotonic()
    done: Counter[str] = Counter()
    while done.total() < examples:
        for test in tests:
            if time.monotonic() - began > seconds:
                break
            test()
            done[test.__name__] += BATCH
        else:
            continue
        break
    for name, count in done.items():
        print(f"{count:8,} {name}")
    print(f"{done.total():8,} examples in {time.monotonic() - began:.0f} seconds, none failed")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
