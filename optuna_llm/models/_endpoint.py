"""One server and what it takes to talk to it: address, key, client and secrets."""

from __future__ import annotations

from collections.abc import Callable
import os
from typing import Any
from typing import TYPE_CHECKING
from typing import TypeAlias
from urllib.parse import parse_qsl
from urllib.request import getproxies

from optuna_llm._errors import ModelSetupError
from optuna_llm._processes import current_process
from optuna_llm._secrets import find_header_secrets
from optuna_llm._secrets import find_url_secrets
from optuna_llm._secrets import make_redactor
from optuna_llm._secrets import Redactor
from optuna_llm._secrets import strip_url
from optuna_llm.models._address import Address
from optuna_llm.models._address import name_settings
from optuna_llm.models._chat import WAYS_OUT
from optuna_llm.models._connection import Connection
from optuna_llm.models._connection import find_http_library


if TYPE_CHECKING:
    import openai

_NO_KEY = "none"
_OPENAI = "https://api.openai.com/v1"

Client: TypeAlias = "openai.OpenAI | Callable[[], openai.OpenAI]"


class Endpoint:
    """One server, and what is needed to talk to it.

    Args:
        name: The model's name, for messages.
        base_url: The server's address; None for ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: The key; None for ``OPENAI_API_KEY``.
        client: The user's own client in place of both, or a function that makes one.

    Raises:
        ValueError: If the address cannot be right, or no key is known where one is needed.
    """

    def __init__(
        self, name: str, base_url: str | None, api_key: str | None, client: Client | None
    ) -> None:
        self._name = name
        self._setting = "base_url" if base_url else "OPENAI_BASE_URL"
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        self._api_key = api_key
        self._given = client
        self._client: tuple[tuple[int, int], openai.OpenAI | None] = (current_process(), None)
        self._process = current_process()
        if client is None:
            self.address.check()
            self._find_key()

    def __getstate__(self) -> dict[str, Any]:
        import openai

        if isinstance(self._given, openai.OpenAI):
            raise TypeError(
                "An OpenAIModel with a client of its own cannot be pickled or copied: clients "
                "cannot. Give base_url= and api_key=, or as client= a function that makes one."
            )
        url = self._base_url and strip_url(self._base_url)
        return self.__dict__ | {"_api_key": None, "_client": (None, None), "_base_url": url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._process = current_process()
        url = os.environ.get("OPENAI_BASE_URL")
        if url and strip_url(url) == self._base_url:
            self._base_url = url  # With the login, which is not pickled.

    @property
    def address(self) -> Address:
        """Where the server is."""
        url = self._base_url
        if url is None and self._given is not None:
            url = str(self._find_client().base_url)
        return Address(url or _OPENAI, self._setting, self._given is not None)

    def __str__(self) -> str:
        return f"{self.address.host} for {self._name!r}"

    def move(self, url: str) -> Endpoint:
        """The endpoint at another address of the same server."""
        moved = object.__new__(Endpoint)
        moved.__dict__.update(self.__dict__, _base_url=url)
        return moved

    def connect(self) -> Connection:
        """A connection of this process's own.

        Raises:
            ModelSetupError: If proxies, certificates or key are not usable.
        """
        import openai

        invalid_url = find_http_library().InvalidURL
        try:
            if self._given is not None:
                given = self._find_client()
                if self._base_url is not None:
                    given = given.with_options(base_url=self._base_url)
                return Connection(
                    lambda http: given.with_options(http_client=http),
                    through=self._share_http_client(given),
                )
            key, address = self._find_key(), self.address
            url, _, query = address.url.partition("?")
            return Connection(
                lambda http: openai.OpenAI(
                    api_key=key,
                    base_url=url,
                    default_query=dict(parse_qsl(query)),
                    max_retries=0,
                    http_client=http,
                ),
                without_proxy=address.host if address.is_loopback else None,
            )
        except (ValueError, ImportError, OSError, invalid_url) as error:
            # Raised by the HTTP library for a proxy or certificate it cannot use.
            said = self.redactor().redact(f"{type(error).__name__}: {error}")
            raise ModelSetupError(
                f"No client can be made for {self}: {said}.{name_settings()}"
            ) from None

    def redactor(self, request: Any = None) -> Redactor:
        """Replaces every secret that the server knows of.

        Args:
            request: The HTTP request that was sent, whose headers and URL hold some.
        """
        secrets = [self._api_key, os.environ.get("OPENAI_API_KEY")]
        for url in (self.address.url, *getproxies().values()):
            secrets += find_url_secrets(url)
        if self._client[1] is not None:
            secrets.append(self._client[1].api_key)
        if request is not None:
            secrets += find_header_secrets(request.headers)
            secrets += find_url_secrets(str(request.url))
        return make_redactor(tuple(secrets))

    def _find_client(self) -> openai.OpenAI:
        """The user's client, or this process's own if a function makes it."""
        import openai

        process = current_process()
        # Kept together: other threads of a forked child must not see one without the other.
        owner, client = self._client
        is_shared = isinstance(self._given, openai.OpenAI)
        if client is None or (owner != process and not is_shared):
            made = self._given
            if callable(made):
                made = made()
            if not isinstance(made, openai.OpenAI):
                raise TypeError(f"The client function must return an openai.OpenAI: {made!r}.")
            # Without the client's own retries: it gives up sooner, and says nothing of it.
            client = made.with_options(max_retries=0)
            self._client = (process, client)
        return client

    def _share_http_client(self, client: openai.OpenAI) -> Any:
        """The HTTP client of the user's client; None where a forked child needs another."""
        import openai

        http_client = client._client
        if self._process == current_process() or not isinstance(self._given, openai.OpenAI):
            return http_client
        if type(http_client).__name__ == "SyncHttpxClientWrapper":
            return None  # The one that openai makes by itself.
        raise ModelSetupError(
            "The client given to OpenAIModel has an HTTP client of its own, which a forked "
            "process cannot share with its parent. Give as client= a function that makes one."
        )

    def _find_key(self) -> str:
        key = self._api_key or os.environ.get("OPENAI_API_KEY")
        if not key:
            if not self.address.is_local:
                raise ValueError(f"No API key is known for the model {self._name!r}. {WAYS_OUT}")
            return _NO_KEY  # The client wants one, the server does not.
        if not key.isascii() or not key.isprintable() or " " in key:
            # Checked here, without showing it: as a header it would be shown by the error.
            raise ValueError("The API key holds a space, line break or non-ASCII character.")
        return key
