"""Where Triton is, as the catalogue says it: one server, or several with the same models."""

import pytest
from pydantic import ValidationError

from services.router.provider_entries import SERVERS_MAX, TritonEntry


def entry(**fields: object) -> TritonEntry:
    return TritonEntry.model_validate({"kind": "triton", **fields})


def test_single_server_is_where_it_always_was() -> None:
    usual = entry()
    by_http = entry(transport="http", http_address="a:8000")

    assert [("127.0.0.1", 8001)] == usual.addresses
    assert [("a", 8000)] == by_http.addresses
    assert ["127.0.0.1:8001"] == [server.grpc_address for server in usual.all_servers]


def test_several_servers_are_reached_by_the_transport() -> None:
    servers = [
        {"grpc_address": "a:1", "http_address": "a:2"},
        {"grpc_address": "[::1]:3", "http_address": "[::1]:4"},
    ]

    assert [("a", 1), ("[::1]", 3)] == entry(servers=servers).addresses
    assert [("a", 2), ("[::1]", 4)] == entry(servers=servers, transport="http").addresses


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"servers": [{"grpc_address": "a:1"}], "grpc_address": "b:1"}, "take the place"),
        ({"servers": [{"grpc_address": "a:1"}], "transport": "http"}, "needs http_address"),
        ({"servers": [{"http_address": "a:1"}]}, "needs grpc_address"),
        ({"servers": [{"grpc_address": "a:1"}, {"grpc_address": "a:1"}]}, "the same address"),
        ({"servers": [{"grpc_address": "a"}]}, "pattern"),
        ({"servers": [{"grpc_address": f"a:{n}"} for n in range(SERVERS_MAX + 1)]}, "at most"),
        ({"version_min": "new"}, "pattern"),
        ({"transport": "http"}, "needs http_address"),
    ],
)
def test_servers_that_cannot_be_reached_are_refused(fields: dict[str, object], part: str) -> None:
    with pytest.raises(ValidationError) as caught:
        entry(**fields)

    assert part in str(caught.value)
