"""A stand-in for a small model that answers questions on notes: no key, no network.

It understands nothing: it looks the answers up. How it writes one follows from its instructions
alone. It chats unless they limit its words, writes dates, times, amounts, lengths and names in its
own way unless they say how, and guesses unless they say what to answer where a note does not tell.
The higher the temperature, the more often it forgets all of that.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from datetime import date
import random
import re

from optuna_llm import Completion
from optuna_llm import Message
from optuna_llm import Usage


FORGETFULNESS = 0.3
SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "CHF": "Fr. "}


class Answerer:
    """A model that knows all answers, but not in which form they are wanted.

    Args:
        answers: Each question's answer, as it is wanted.
        temperature: From 0 to 1.
    """

    def __init__(self, answers: Mapping[str, str], temperature: float) -> None:
        self._answers = answers
        self._temperature = temperature

    def complete(self, messages: Sequence[Message]) -> Completion:
        """The answer to the question in the last line; words are counted as tokens."""
        system, user = (message.content for message in messages)
        question = user.splitlines()[-1]
        rng = random.Random(f"{system}\n{user}")
        obeys = rng.random() >= FORGETFULNESS * self._temperature
        reply = write_answer(self._answers[question], system if obeys else "")
        sent = len(system.split()) + len(user.split())
        usage = Usage(prompt_tokens=sent, completion_tokens=len(reply.split()))
        return Completion(reply, "stand-in", usage)


def write_answer(answer: str, instructions: str) -> str:
    """An answer, in the form and the number of words that the instructions ask for."""
    told = instructions.lower()
    is_short = re.search(r"nothing (?:else|but)|(?:only|just) the answer|no other words", told)
    limit = re.search(r"(\d+) words?", told)
    n_words = 4 if is_short else int(limit[1]) if limit else 100
    answer = write_value(answer, told)
    if n_words >= 8:
        return f"According to the note, the answer is {answer}."
    if n_words >= 5:
        return f"It is {answer}."
    return " ".join(answer.split()[:n_words])


def write_value(answer: str, told: str) -> str:
    """An answer's value, in the form that the instructions ask for, else in a usual one."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", answer):
        is_told = re.search(r"yyyy-mm-dd|iso\b", told)
        return answer if is_told else f"{date.fromisoformat(answer):%B %d, %Y}"
    if re.fullmatch(r"\d\d:\d\d", answer):
        hours, minutes = answer.split(":")
        half = f"{int(hours) % 12 or 12}:{minutes} {'pm' if int(hours) >= 12 else 'am'}"
        return answer if re.search(r"24[- ]?h|hh:mm", told) else half
    if amount := re.fullmatch(r"(\S+) ([A-Z]{3})", answer):
        is_told = re.search(r"currency code|two decimals|\d\.\d\d [a-z]{3}\b", told)
        return answer if is_told else f"{SYMBOLS[amount[2]]}{amount[1].removesuffix('.00')}"
    if length := re.fullmatch(r"(\d+) min", answer):
        hours, minutes = divmod(int(length[1]), 60)
        is_told = not hours or re.search(r"\bin minutes|\d min\b", told)
        return answer if is_told else f"{hours} h {minutes} min".removesuffix(" 0 min")
    if ", " in answer:
        surname, first = answer.split(", ")
        is_told = re.search(r"(?:surname|last name|family name)\b.*\bfirst", told)
        return answer if is_told else f"{first} {surname}"
    if answer == "unknown" and "unknown" not in told:
        answer = "yes"
    return answer if re.search(r"lower[- ]?case|\byes\b", told) else answer.capitalize()
