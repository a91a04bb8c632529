"""What a key may do, when it ends, and how rotations overlap."""

from dataclasses import replace

import pytest

from kit.errors import Reason, TurnpikeError
from kit.secrets import is_token, token_digest
from services.auth.keys import (
    LIMIT_MAX,
    Issuer,
    KeptSecret,
    Key,
    KeySpec,
    check_count,
    check_dialect,
    check_models,
    check_rotatable,
    check_scopes,
    check_secret,
    hint,
    retire,
    stored_hash,
)
from services.auth.limits import Limits
from services.auth.tiers import Tiers

NOW = 1_760_000_000_000
SPEC = KeySpec(
    account_id="a",
    name="",
    scopes=("chat",),
    models=(),
    tier="default",
    dialect="",
    expire_unix_ms=None,
    requests_per_minute=None,
    tokens_per_minute=None,
)
KEY = Key("k", SPEC, "sk-tp-ab...wxyz", NOW)


def expiring(at_unix_ms: int | None) -> Key:
    return replace(KEY, spec=replace(SPEC, expire_unix_ms=at_unix_ms))


def test_issued_secret_is_well_formed_and_only_its_hmac_is_kept() -> None:
    issued = Issuer(prefix="sk-tp-", pepper=b"pepper", random_bytes=bytes).issue()

    assert is_token(issued.secret, prefix="sk-tp-")
    assert stored_hash(b"pepper", token_digest(issued.secret)) == issued.secret_hash
    assert hint(issued.secret) == issued.hint
    assert issued.secret not in repr(issued)


def test_stored_hash_depends_on_the_pepper_and_is_not_the_digest() -> None:
    digest = token_digest("sk-tp-x")

    hashes = {digest, stored_hash(b"one", digest), stored_hash(b"two", digest)}

    assert 3 == len(hashes)
    assert {32} == {len(h) for h in hashes}


def test_hint_shows_the_ends_only() -> None:
    assert "sk-tp-AB...7890" == hint("sk-tp-ABCDEFGH1234567890")


@pytest.mark.parametrize(
    ("key", "secret_end", "verdict"),
    [
        (KEY, None, None),
        (KEY, NOW + 1, NOW + 1),
        (KEY, NOW, Reason.KEY_EXPIRED),
        (expiring(NOW + 5), None, NOW + 5),
        (expiring(NOW + 5), NOW + 1, NOW + 1),
        (expiring(NOW + 1), NOW + 5, NOW + 1),
        (expiring(NOW), None, Reason.KEY_EXPIRED),
        (expiring(NOW - 1), NOW + 5, Reason.KEY_EXPIRED),
        (replace(KEY, revoke_unix_ms=NOW), None, Reason.KEY_REVOKED),
        (replace(expiring(NOW - 1), revoke_unix_ms=NOW - 2), None, Reason.KEY_REVOKED),
    ],
)
def test_secret_works_until_the_first_of_its_ends(
    key: Key, secret_end: int | None, verdict: int | Reason | None
) -> None:
    secret = KeptSecret(b"h", 1, secret_end)

    try:
        answer: int | Reason | None = check_secret(key, secret, NOW)
    except TurnpikeError as error:
        answer = error.reason

    assert verdict == answer


@pytest.mark.parametrize("key", [expiring(NOW), replace(KEY, revoke_unix_ms=NOW)])
def test_dead_key_gets_no_new_secret(key: Key) -> None:
    with pytest.raises(TurnpikeError) as caught:
        check_rotatable(key, NOW)

    assert Reason.UNPROCESSABLE == caught.value.reason


def test_rotation_ends_the_newest_secret_after_the_overlap_and_older_ones_at_once() -> None:
    secrets = [KeptSecret(b"1", 1, NOW - 1), KeptSecret(b"2", 2, NOW + 500), KeptSecret(b"3", 3)]

    retired = retire(secrets, NOW, 1000)

    assert [KeptSecret(b"3", 3, NOW + 1000), KeptSecret(b"2", 2, NOW)] == retired


def test_rotation_never_prolongs_a_secret() -> None:
    assert [KeptSecret(b"1", 1, NOW + 5)] == retire([KeptSecret(b"1", 1, NOW + 5)], NOW, 1000)


def test_scopes_come_in_order_without_repeats_and_have_a_usual_set() -> None:
    assert ("chat", "admin") == check_scopes(["admin", "chat", "admin"])
    assert ("chat", "models", "usage") == check_scopes([])


def test_models_keep_their_order_without_repeats() -> None:
    assert ("b/x", "a") == check_models(["b/x", "a", "b/x"])


@pytest.mark.parametrize(
    ("check", "param"),
    [
        (lambda: check_scopes(["chat", "root"]), "scopes"),
        (lambda: check_models([""]), "models"),
        (lambda: check_models(["a b"]), "models"),
        (lambda: check_models(["a\0"]), "models"),
        (lambda: check_models(["x" * 201]), "models"),
        (lambda: check_models([str(n) for n in range(257)]), "models"),
        (lambda: check_dialect("klingon"), "dialect"),
        (lambda: check_count(-1, "tokens_per_minute"), "tokens_per_minute"),
        (lambda: check_count(LIMIT_MAX + 1, "request_count"), "request_count"),
        (lambda: Tiers({"default": Limits(1, 1)}, default="default").check("gold"), "tier"),
    ],
)
def test_refusal_names_the_field(check: "object", param: str) -> None:
    assert callable(check)

    with pytest.raises(TurnpikeError) as caught:
        check()

    assert (Reason.INVALID_VALUE, param) == (caught.value.reason, caught.value.metadata["param"])


def test_own_limits_win_over_the_tier_and_a_lost_tier_is_the_default_one() -> None:
    tiers = Tiers({"default": Limits(6, 60), "pro": Limits(9, 90)}, default="default")

    assert Limits(6, 60) == tiers.limits_of(SPEC)
    assert Limits(9, 90) == tiers.limits_of(replace(SPEC, tier="pro"))
    assert Limits(0, 90) == tiers.limits_of(replace(SPEC, tier="pro", requests_per_minute=0))
    assert Limits(6, 7) == tiers.limits_of(replace(SPEC, tier="gone", tokens_per_minute=7))
    assert "default" == tiers.check("")
    assert "pro" == tiers.check("pro")
