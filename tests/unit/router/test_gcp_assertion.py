"""What a service account shows, held against google-auth."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from google.oauth2 import service_account

from services.router.providers.google.gcp_assertion import (
    SCOPE,
    assertion,
    grant_body,
    read_grant,
    read_service_account,
)
from tests.fakes.gcp_accounts import GRANT, GcpAccounts, new_key, verified

NOW = 1_790_000_000


@pytest.fixture(scope="module")
def accounts() -> GcpAccounts:
    return GcpAccounts(new_key(), port=1)


def test_assertion_is_the_one_that_google_auth_makes(accounts: GcpAccounts, tmp_path: Path) -> None:
    path = accounts.key_file(tmp_path)
    credentials: Any = service_account.Credentials
    oracle = credentials.from_service_account_file(str(path), scopes=[SCOPE])
    signed = assertion(read_service_account(path.read_bytes()), now_unix_s=NOW)

    their_header, theirs = verified(
        oracle._make_authorization_grant_assertion(), accounts.public_pem()
    )
    header, ours = verified(signed, accounts.public_pem())

    assert their_header == header
    assert theirs.keys() == ours.keys()
    assert (theirs["iss"], theirs["scope"]) == (ours["iss"], ours["scope"])
    assert theirs["exp"] - theirs["iat"] == ours["exp"] - ours["iat"]
    # Theirs names Google's own, whatever the file says.
    assert ("https://oauth2.googleapis.com/token", f"{accounts.url}/token") == (
        theirs["aud"],
        ours["aud"],
    )
    assert NOW == ours["iat"]


def test_form_asks_for_a_grant(accounts: GcpAccounts, tmp_path: Path) -> None:
    account = read_service_account(accounts.key_file(tmp_path).read_bytes())

    form = parse_qs(grant_body(account, now_unix_s=NOW).decode())

    assert [GRANT] == form["grant_type"]
    assert ["assertion", "grant_type"] == sorted(form)


def test_account_does_not_show_its_key(accounts: GcpAccounts, tmp_path: Path) -> None:
    account = read_service_account(accounts.key_file(tmp_path).read_bytes())

    assert "robot@p.iam.gserviceaccount.com" in repr(account)
    assert "RSA" not in repr(account)


def _ec_key() -> str:
    return (
        generate_private_key(SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


@pytest.mark.parametrize(
    "changes",
    [{"type": "authorized_user"}, {"private_key": "-----BEGIN secret"}, {"private_key": _ec_key()}],
)
def test_other_files_are_no_key_files(
    accounts: GcpAccounts, tmp_path: Path, changes: dict[str, str]
) -> None:
    path = accounts.key_file(tmp_path, **changes)

    with pytest.raises(ValueError, match="key") as caught:
        read_service_account(path.read_bytes())

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"type": "service_account"}'])
def test_junk_is_no_key_file(data: bytes) -> None:
    with pytest.raises(ValueError, match="no key file"):
        read_service_account(data)


def test_grant_is_read_and_not_shown() -> None:
    grant = read_grant(b'{"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"}')

    assert ("ya29.x", 3599.0) == (grant.token, grant.lifetime_s)
    assert "ya29" not in repr(grant)


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": ""},
        {"access_token": "a\nb"},
        {"access_token": "é"},
        {"access_token": 3},
        {"token_type": "mac"},
        {"expires_in": 0},
    ],
)
def test_answer_without_a_usable_token_is_refused(changes: dict[str, object]) -> None:
    found = {"access_token": "x", "expires_in": 9, "token_type": "Bearer", **changes}

    with pytest.raises(ValueError, match="no token"):
        read_grant(json.dumps(found).encode())
