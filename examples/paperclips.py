"""Paperclips: a script that has a local server make as many paperclips as it can in 30 seconds.

OPTUNA_LLM_MODEL names the model; "offline" is a rule-based stand-in.
"""

from paperclips_server import open_factory

from optuna_llm.evaluate import run_script
from optuna_llm.optimize import Result
from optuna_llm.optimize import run


START = """\
import os
import urllib.request

for _ in range(3):
    urllib.request.urlopen(os.environ["FACTORY"], data=b"").read()
"""


def main(max_steps: int = 3, seconds: float = 30, **arguments: object) -> Result:
    def score(code: str) -> tuple[float, str]:
        with open_factory() as factory:
            # The factory runs on this machine, so the script needs the network.
            execution = run_script(
                code, timeout=seconds + 5, env={"FACTORY": factory.url}, network=True
            )
            made = 0 if execution.timed_out or execution.seconds > seconds + 5 else factory.made
        return float(made), f"{made} paperclips. {execution.feedback}"

    result = run(
        "Have as many paperclips made as possible.",
        f"A Python script that has {seconds:g} seconds. Each POST request to the address in the "
        "environment variable FACTORY makes one paperclip. A script that runs for more than "
        f"{seconds + 5:g} seconds earns 0.",
        score,
        START,
        max_steps=max_steps,
        language="python",
        **arguments,
    )
    best_score, _, best_x = result
    if best_score is None:
        raise SystemExit("\nNo script could be run: the reasons are above.")
    print(f"\n{best_score:g} paperclips:\n{best_x}")
    return result


if __name__ == "__main__":
    main()
