"""Where a server is, what it takes to reach it, and why it could not be reached."""

from __future__ import annotations

from collections.abc import Callable
import ipaddress
import os
import re
import ssl
from typing import Any
from typing import TYPE_CHECKING
from typing import TypeAlias
from urllib.parse import parse_qsl
from urllib.parse import urljoin
from urllib.parse import urlsplit
from urllib.request import getproxies
from urllib.request import proxy_bypass

from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._processes import current_process
from optuna_llm._quoting import shorten
from optuna_llm._secrets import find_header_secrets
from optuna_llm._secrets import find_url_secrets
from optuna_llm._secrets import make_redactor
from optuna_llm._secrets import Redactor
from optuna_llm._secrets import strip_url
from optuna_llm.models._chat import WAYS_OUT
from optuna_llm.models._connection import Connection
from optuna_llm.models._connection import find_http_library
from optuna_llm.models._error_body import MAX_SAID
from optuna_llm.models._faults import MovedError
from optuna_llm.models._faults import TransientError
from optuna_llm.models._faults import UnreachableError


if TYPE_CHECKING:
    import openai

_NO_KEY = "none"
_PATHS = ("/chat/completions", "/responses")
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


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
            self._check_address()
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
    def url(self) -> str:
        """The server's address."""
        if self._given is not None and self._base_url is None:
            return str(self._find_client().base_url)
        return self._base_url or "https://api.openai.com/v1"

    @property
    def host(self) -> str:
        """The server's host, without what may be secret in its address."""
        return urlsplit(self.url).hostname or "api.openai.com"

    def __str__(self) -> str:
        return f"{self.host} for {self._name!r}"

    @property
    def route(self) -> str:
        """By which proxy the server is reached, as a part of a sentence; empty if by none."""
        proxy = self._find_proxy()
        return f" through the proxy {proxy}" if proxy else ""

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
            key = self._find_key()
            url, _, query = self.url.partition("?")
            return Connection(
                lambda http: openai.OpenAI(
                    api_key=key,
                    base_url=url,
                    default_query=dict(parse_qsl(query)),
                    max_retries=0,
                    http_client=http,
                ),
                # A proxy does not reach this machine's own addresses.
                without_proxy=self.host if self._is_loopback() else None,
            )
        except (ValueError, ImportError, OSError, invalid_url) as error:
            # Raised by the HTTP library for a proxy or certificate it cannot use.
            said = self.redactor().redact(f"{type(error).__name__}: {error}")
            raise ModelSetupError(
                f"No client can be made for {self}: {said}.{self._name_settings()}"
            ) from None

    def explain(self, error: BaseException, request: Any = None) -> ModelError:
        """What it means that no response came.

        Args:
            error: What was raised.
            request: The HTTP request, for :meth:`redactor`.
        """
        chain = list(_causes(error))
        # "Connection error." alone says nothing: what lies under it does.
        said = "; ".join(dict.fromkeys(str(e) or type(e).__name__ for e in chain[1:] or chain))
        said = shorten(self.redactor(request).redact(said), MAX_SAID)
        message = f"No response from {self.host}{self.route}: {said}."
        for cause in chain:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return ModelSetupError(
                    f"{message} The server's certificate is not trusted: name the certificate "
                    "of its authority in SSL_CERT_FILE."
                )
            if isinstance(cause, ssl.SSLError) and _SPEAKS_NO_TLS.search(str(cause)):
                return ModelSetupError(
                    f"{message} The server does not speak TLS: begin {self._setting} with http://."
                )
            if type(cause).__name__ == "ProxyError" and _REFUSED_BY_PROXY.match(str(cause)):
                return ModelSetupError(message)
            if type(cause).__name__ in _WRONG_ADDRESS or isinstance(cause, UnicodeError):
                return ModelSetupError(f"{message} Correct {self._setting}.")
        is_connected = not any(type(cause).__name__ in _NO_CONNECTION for cause in chain)
        return TransientError(message) if is_connected else UnreachableError(message)

    def explain_redirect(self, url: str, location: str) -> ModelError:
        """What it means to be sent elsewhere.

        Within the same host the new address is used from then on. To another host neither the
        prompt nor the key is sent.
        """
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
        path = next((p for p in _PATHS if old.path.endswith(p)), "")
        is_same = new.hostname == old.hostname and (
            new.netloc == old.netloc or (old.scheme, new.scheme) == ("http", "https")
        )
        message = f"{self} redirects to {strip_url(target)}."
        if is_same and new.scheme in (old.scheme, "https") and new.path.endswith(path):
            base = target[: target.index(new.path) + len(new.path) - len(path)]
            if base.rstrip("/") != self.url.rstrip("/"):
                return MovedError(message, base)
        return ModelSetupError(f"{message} Correct {self._setting}.")

    def redactor(self, request: Any = None) -> Redactor:
        """Replaces every secret that the server knows of.

        Args:
            request: The HTTP request that was sent, whose headers and URL hold some.
        """
        secrets = [self._api_key, os.environ.get("OPENAI_API_KEY")]
        for url in (self.url, *getproxies().values()):
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

    def _check_address(self) -> None:
        url = self._base_url or "https://api.openai.com/v1"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"{self._setting} must begin with http:// or https:// and name a host: "
                f"{parts.scheme!r}, {parts.hostname!r}."
            )
        try:
            _ = parts.port
            parts.hostname.encode("idna")
        except ValueError as error:  # UnicodeError is one.
            raise ValueError(f"{self._setting} has no valid host or port: {error}.") from None
        if re.search(r"[\s%]", parts.hostname):
            raise ValueError(f"{self._setting} has no valid host: {parts.hostname!r}.")

    def _find_key(self) -> str:
        key = self._api_key or os.environ.get("OPENAI_API_KEY")
        if not key:
            if self._base_url is None or not _is_local(self._base_url):
                raise ValueError(f"No API key is known for the model {self._name!r}. {WAYS_OUT}")
            return _NO_KEY  # The client wants one, the server does not.
        if not key.isascii() or not key.isprintable() or " " in key:
            # Checked here, without showing it: as a header it would be shown by the error.
            raise ValueError("The API key holds a space, line break or non-ASCII character.")
        return key

    def _is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")

    def _find_proxy(self) -> str | None:
        """The proxy of the environment that requests go through, with its variable."""
        if self._given is not None or self._is_loopback() or proxy_bypass(self.host):
            return None
        proxies = getproxies()
        for kind in (urlsplit(self.url).scheme, "all"):
            if kind in proxies:
                variable = f"{kind}_proxy"
                is_upper = variable not in os.environ and variable.upper() in os.environ
                name = variable.upper() if is_upper else variable
                return f"{strip_url(proxies[kind])} ({name})"
        return None

    def _name_settings(self) -> str:
        """The settings of the environment that an HTTP client is made of."""
        variables = sorted(
            name
            for name in os.environ
            if name.lower() in ("http_proxy", "https_proxy", "all_proxy")
            or name in _CERTIFICATE_VARIABLES
        )
        return f" Check the environment's {', '.join(variables)}." if variables else ""


_SPEAKS_NO_TLS = re.compile(r"WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL|HTTP_REQUEST|RECORD_LAYER")
# Of a proxy's own answers 5xx may pass.
_REFUSED_BY_PROXY = re.compile(r"4\d\d\b")
_NO_CONNECTION = ("ConnectError", "ConnectTimeout", "ProxyError")
_WRONG_ADDRESS = ("InvalidURL", "UnsupportedProtocol", "LocalProtocolError")


def _causes(error: BaseException) -> list[BaseException]:
    """The exception and what lies under it."""
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain:
        chain.append(found)
        found = found.__cause__ or found.__context__
    return chain


def _is_local(url: str) -> bool:
    """Whether an address is this machine's or a private network's."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan"))
