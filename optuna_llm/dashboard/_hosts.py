"""A check of the Host header, against DNS rebinding.

A website can point its own name at the address of a dashboard that only its visitor can reach.
To the visitor's browser both are then the same site, and the website's scripts may read and change
studies. Such requests carry the website's name in their Host header.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
import re
import socket
from typing import TYPE_CHECKING

from optuna_llm._quoting import one_line


if TYPE_CHECKING:
    from wsgiref.types import StartResponse
    from wsgiref.types import WSGIApplication
    from wsgiref.types import WSGIEnvironment

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:@/\\\[\]]+)(?::\d{1,5})?", re.IGNORECASE)
_ANY_ADDRESS = ("", "0.0.0.0", "::")


def find_hosts(host: str, allowed_hosts: Iterable[str]) -> frozenset[str]:
    """The names and addresses that requests to a server may be addressed to.

    Args:
        host: The name or address that the server listens at.
        allowed_hosts: Further names or addresses, with or without a port.

    Raises:
        TypeError: If ``allowed_hosts`` is a string rather than a collection of them.
        ValueError: If one of them is no host.
    """
    if isinstance(allowed_hosts, str):
        raise TypeError(f"allowed_hosts must be a list of names: [{allowed_hosts!r}].")
    allowed = set()
    for name in allowed_hosts:
        found = parse_host(name)
        if found is None:
            raise ValueError(f"allowed_hosts contains {name!r}, which is no host name or address.")
        allowed.add(found)
    own = {socket.gethostname(), socket.getfqdn()} if host in _ANY_ADDRESS else {host}
    return frozenset({"localhost", *allowed, *(name.lower().rstrip(".") for name in own)})


def check_host(app: WSGIApplication, host: str, allowed: frozenset[str]) -> WSGIApplication:
    """The application for requests to allowed hosts; others get an explanation.

    Args:
        app: The application.
        host: The name or address that the server listens at. If that is any address, requests to
            every address are allowed, since only names can be rebound.
        allowed: Names and addresses that are allowed besides those of this machine itself.
    """
    any_address = host in _ANY_ADDRESS

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        header = environ.get("HTTP_HOST", "")
        found = parse_host(header)
        if found is not None and (found in allowed or _is_local(found, any_address)):
            return app(environ, start_response)
        name = one_line(header, 100)
        answer = (
            f"This dashboard does not answer requests to the host {name!r}, which protects it "
            "from other websites. If you reach it by that name, through a proxy perhaps, start it "
            f"with optuna_llm.dashboard.run(..., allowed_hosts=[{(found or 'name')[:100]!r}]).\n"
        )
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        start_response("403 Forbidden", headers)
        return [answer.encode("utf-8", "backslashreplace")]

    return checked


def parse_host(header: str) -> str | None:
    """The host of a Host header in lower case, without its port; None if it is malformed."""
    found = _HOST.fullmatch(header)
    return found[1].strip("[]").lower().rstrip(".") or None if found else None


def _is_local(host: str, any_address: bool) -> bool:
    """Whether a host is always this machine, or an address where any is allowed."""
    if host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any_address or address.is_loopback
