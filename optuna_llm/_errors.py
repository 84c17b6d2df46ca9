"""What can be caught.

    LLMError
    ├── ReplyError              the model's mistake: its reply could not be used
    └── ModelError              the world's: the model could not be asked
        ├── ContextLengthError      the prompt is longer than the model accepts
        └── ModelSetupError         key, quota, name or request: would be refused again
            └── NeverAnsweredError      nothing has answered at the address yet

A caller's mistake is a ``ValueError`` or ``TypeError``, outside this tree.
"""

from __future__ import annotations


class LLMError(Exception):
    """A trial got no values from the model, and nobody else can decide them."""


class ReplyError(LLMError):
    """The model's reply could not be used; the message tells the model what to correct."""


class ModelError(LLMError):
    """The model gave no reply: a timeout, a broken connection, a server error.

    Raise it from a model of your own to have the base sampler stand in. Any other exception
    raised by a model fails the trial as it is.
    """


class ContextLengthError(ModelError):
    """The prompt is longer than the model accepts; the sampler retries with a shorter one."""


class ModelSetupError(ModelError):
    """The server refuses the request and would refuse it again: the setup must be fixed.

    Raised for a wrong key, an unknown model or an exhausted quota. There is no fallback: it ends
    ``study.optimize``, which raises it even under ``catch=Exception``.
    """


class NeverAnsweredError(ModelSetupError):
    """The server has never answered in this process: its address is wrong, or it does not run.

    The one setup error that may pass, once the server is started. The base sampler thus stands
    in for numbers; a trial that needs a text ends ``study.optimize``.
    """
