from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_httpserver import HTTPServer


@pytest.fixture(scope="session")
def make_httpserver() -> Iterator[HTTPServer]:
    """One server for all tests, since stopping one takes half a second."""
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def server(httpserver: HTTPServer) -> HTTPServer:
    return httpserver
