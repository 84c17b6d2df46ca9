"""What can be caught.

    LLMError
    ├── ReplyError              the model's mistake: its reply could not be used
    └── ModelError              the world's: the model could not be asked
        ├── ContextLengthError      the prompt is longer than the model takes
        └── ModelSetupError         key, quota, name or request: refused now and ever

A caller's mistake is a ``ValueError`` or ``TypeError`` and stands outside of the tree.
"""

from __future__ import annotations


class LLMError(Exception):
    """A trial got no values from the model, and nobody else can decide them."""


class ReplyError(LLMError):
    """The model's reply could not be used; the message says to the model what to mend."""


class ModelError(LLMError):
    """The model gave no reply: time ran out, the connection broke, the server failed.

    Raise it from a model of your own where the base sampler shall stand in. Any other
    exception of a model ends the trial as it is.
    """


class ContextLengthError(ModelError):
    """The prompt is longer than the model takes; the sampler asks again with a shorter one."""


class ModelSetupError(ModelError):
    """The server refuses the request and would refuse it again: the setup must be mended.

    Raised for a wrong key, an unknown model or a used-up quota. Never answered by a fallback: it
    ends the study.
    """
