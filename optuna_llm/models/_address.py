"""A server's address, the way to it, and why it could not be reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import ipaddress
import os
import re
import ssl
from urllib.parse import urljoin
from urllib.parse import urlsplit
from urllib.request import getproxies
from urllib.request import proxy_bypass

from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._quoting import shorten
from optuna_llm._secrets import strip_url
from optuna_llm.models._connection import CERTIFICATE_VARIABLES
from optuna_llm.models._error_body import MAX_SAID
from optuna_llm.models._faults import MovedError
from optuna_llm.models._faults import TransientError
from optuna_llm.models._faults import UnreachableError


_SPEAKS_NO_TLS = re.compile(r"WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL|HTTP_REQUEST|RECORD_LAYER")
# Of a proxy's own answers 5xx may pass.
_REFUSED_BY_PROXY = re.compile(r"4\d\d\b")
_NO_CONNECTION = ("ConnectError", "ConnectTimeout", "ProxyError")
_WRONG_ADDRESS = ("InvalidURL", "UnsupportedProtocol")
_PATHS = ("/chat/completions", "/responses")


@dataclass(frozen=True)
class Address:
    """Where a server is.

    Attributes:
        url: The base URL.
        setting: The setting that it comes from, for messages.
        is_clients: Whether a client of the user's decides by which way it is reached.
    """

    url: str
    setting: str
    is_clients: bool

    @property
    def host(self) -> str:
        """The host, without what may be secret in the URL."""
        return urlsplit(self.url).hostname or "api.openai.com"

    @property
    def is_local(self) -> bool:
        """Whether it is this machine's or a private network's."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_private
        except ValueError:
            return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan"))

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine's own, which no proxy reaches."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")

    @property
    def route(self) -> str:
        """By which proxy the server is reached, as a part of a sentence; empty if by none."""
        proxy = self._find_proxy()
        return f" through the proxy {proxy}" if proxy else ""

    def check(self) -> None:
        """Raise a ValueError if it cannot be right."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"{self.setting} must begin with http:// or https:// and name a host: "
                f"{parts.scheme!r}, {parts.hostname!r}."
            )
        try:
            _ = parts.port
            parts.hostname.encode("idna")
        except ValueError as error:  # UnicodeError is one.
            raise ValueError(f"{self.setting} has no valid host or port: {error}.") from None
        if re.search(r"[\s%]", parts.hostname):
            raise ValueError(f"{self.setting} has no valid host: {parts.hostname!r}.")

    def explain(self, error: BaseException, redact: Callable[[str], str]) -> ModelError:
        """What it means that no response came.

        Args:
            error: What was raised.
            redact: Takes the secrets out of a text.
        """
        chain = list(_causes(error))
        # "Connection error." alone says nothing: what lies under it does.
        said = "; ".join(dict.fromkeys(str(e) or type(e).__name__ for e in chain[1:] or chain))
        said = shorten(redact(said), MAX_SAID)
        message = f"No response from {self.host}{self.route}: {said}."
        for cause in chain:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return ModelSetupError(
                    f"{message} The server's certificate is not trusted: name the certificate "
                    "of its authority in SSL_CERT_FILE."
                )
            if isinstance(cause, ssl.SSLError) and _SPEAKS_NO_TLS.search(str(cause)):
                return ModelSetupError(
                    f"{message} The server does not speak TLS: begin {self.setting} with http://."
                )
            if type(cause).__name__ == "ProxyError" and _REFUSED_BY_PROXY.match(str(cause)):
                return ModelSetupError(message)
            if type(cause).__name__ == "LocalProtocolError" and "header" in str(cause):
                return ModelSetupError(message)
            if type(cause).__name__ in _WRONG_ADDRESS or isinstance(cause, UnicodeError):
                return ModelSetupError(f"{message} Correct {self.setting}.")
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
        message = f"{self.host} redirects to {strip_url(target)}."
        if is_same and new.scheme in (old.scheme, "https") and new.path.endswith(path):
            base = target[: target.index(new.path) + len(new.path) - len(path)]
            if base.rstrip("/") != self.url.partition("?")[0].rstrip("/"):
                query = urlsplit(self.url).query
                return MovedError(message, f"{base}?{query}" if query else base)
        return ModelSetupError(f"{message} Correct {self.setting}.")

    def _find_proxy(self) -> str | None:
        """The proxy of the environment that requests go through, with its variable."""
        if self.is_clients or self.is_loopback or proxy_bypass(self.host):
            return None
        proxies = getproxies()
        for kind in (urlsplit(self.url).scheme, "all"):
            if kind in proxies:
                variable = f"{kind}_proxy"
                is_upper = variable not in os.environ and variable.upper() in os.environ
                name = variable.upper() if is_upper else variable
                return f"{strip_url(proxies[kind])} ({name})"
        return None


def name_settings() -> str:
    """The settings of the environment that an HTTP client is made of, as a sentence."""
    variables = sorted(
        name
        for name in os.environ
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy")
        or name in CERTIFICATE_VARIABLES
    )
    return f" Check the environment's {', '.join(variables)}." if variables else ""


def _causes(error: BaseException) -> list[BaseException]:
    """The exception and what lies under it."""
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain:
        chain.append(found)
        found = found.__cause__ or found.__context__
    return chain
