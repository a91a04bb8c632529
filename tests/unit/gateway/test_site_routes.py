"""Which handler a request finds."""

from typing import Any, cast

import pytest

from gateway.site import Handler, Routes
from kit.errors import Reason, TurnpikeError


def handler(name: str) -> Handler:
    return cast("Handler", name)


ROUTES = Routes(
    [
        ("GET", "/livez", handler("livez")),
        ("POST", "/v1/chat/completions", handler("chat")),
        ("GET", "/v1/models", handler("list")),
        ("GET", "/v1/models/*", handler("get")),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/livez", "livez"),
        ("HEAD", "/livez", "livez"),
        ("POST", "/v1/chat/completions", "chat"),
        ("GET", "/v1/models", "list"),
        ("GET", "/v1/models/a", "get"),
        ("GET", "/v1/models/owner/name", "get"),
    ],
)
def test_request_finds_its_handler(method: str, path: str, found: str) -> None:
    assert cast("Any", ROUTES.find(method, path)) == found


@pytest.mark.parametrize("path", ["/", "", "/v1", "/v1/models/", "/v1/models2", "/livez/x"])
def test_unknown_path_is_not_found(path: str) -> None:
    with pytest.raises(TurnpikeError) as caught:
        ROUTES.find("GET", path)

    assert Reason.NOT_FOUND is caught.value.reason


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models/a", "GET, HEAD"),
        ("OPTIONS", "/livez", "GET, HEAD"),
    ],
)
def test_other_methods_are_told_which_are_allowed(method: str, path: str, allowed: str) -> None:
    with pytest.raises(TurnpikeError) as caught:
        ROUTES.find(method, path)

    assert Reason.METHOD_NOT_ALLOWED is caught.value.reason
    assert allowed == caught.value.metadata["allow"]
