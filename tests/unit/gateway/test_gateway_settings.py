"""Settings of the gateway that only hold together."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings

PEM = Path("any.pem")
TLS = {"grpc_tls_cert": PEM, "grpc_tls_key": PEM}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grpc_tls_cert": PEM}, "go together"),
        ({"grpc_tls_key": PEM}, "go together"),
        ({"grpc_client_ca": PEM}, "needs grpc_tls_cert"),
        ({**TLS, "grpc_identities": {"a": "${KEY}"}}, "needs grpc_client_ca"),
        ({**TLS, "grpc_client_ca": PEM, "grpc_identities": {"a": "sk-tp-secret"}}, "pattern"),
        ({"grpc_port": 65536}, "65535"),
    ],
)
def test_half_of_a_setting_and_secrets_in_the_file_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        GatewaySettings(**values)


def test_whole_settings_are_taken() -> None:
    found = GatewaySettings(**TLS, grpc_client_ca=PEM, grpc_identities={"a": "file:/key"})

    assert {"a": "file:/key"} == found.grpc_identities
