"""Who is tried for an account with keys of its own, and what a refusal of such a key means."""

from collections.abc import Iterator, Sequence

import pytest
from pydantic import SecretStr

from kit.errors import Reason, TurnpikeError
from services.router.attempts import BREAKING, Attempts
from services.router.catalog import Deployment
from services.router.legs import Leg, Try
from services.router.own_tries import OwnKey, OwnKeys, OwnTries, own_key
from services.router.pricing import PriceRow
from services.router.providers.port import Call, Failure, ProviderError
from turnpike.router.v1 import router_pb2

STRICT = OwnKey(SecretStr("sk-own-canary"), has_fallback=False)
LENIENT = OwnKey(SecretStr("sk-own-canary"), has_fallback=True)
REFUSED = ProviderError(Failure.CREDENTIALS, "The upstream did not accept us.", status=401)
LIMITED = ProviderError(Failure.RATE_LIMITED, "Too many.", status=429, retry_after_s=7.2)
DOWN = ProviderError(Failure.UNAVAILABLE, "It is down.", status=503)


def place(name: str, kind: str = "openai_compat") -> Deployment:
    provider = name.partition("-")[0]
    return Deployment(name, "", provider, kind, "", "", PriceRow("", 1, 1))


def leg() -> Leg:
    return Leg(router_pb2.Envelope(), None, None, None)  # type: ignore[arg-type] # not looked at


def turns(*names: str) -> Iterator[Try]:
    one = leg()
    return iter([Try(one, place(name), 1) for name in names])


def tried(
    names: Sequence[str], keys: OwnKeys, error: ProviderError, tries_max: int = 9
) -> tuple[list[tuple[str, bool]], list[ProviderError]]:
    """Return who is tried, with the account's key or not, while everyone fails like this."""

    async def read() -> OwnKeys:
        return keys

    tries = OwnTries(turns(*names), keys, tries_max=tries_max, read=read)
    found, errors = [], []
    for turn in tries:
        found.append((turn.deployment.name, tries.key is not None))
        errors.append(tries.failed(error))
    return found, errors


OWN, OURS = True, False


@pytest.mark.parametrize(
    ("keys", "error", "expected"),
    [
        ({"p": STRICT}, REFUSED, [("p-1", OWN)]),
        ({"p": STRICT}, LIMITED, [("p-1", OWN)]),
        ({"p": STRICT}, DOWN, [("p-1", OWN), ("p-2", OWN)]),
        ({"p": LENIENT}, REFUSED, [("p-1", OWN), ("p-1", OURS), ("p-2", OURS), ("q-1", OURS)]),
        ({"p": LENIENT}, DOWN, [("p-1", OWN), ("p-2", OWN), ("q-1", OURS)]),
        ({"p": STRICT, "q": STRICT}, REFUSED, [("p-1", OWN), ("q-1", OWN)]),
        ({"p": STRICT, "q": LENIENT}, REFUSED, [("p-1", OWN), ("q-1", OWN), ("q-1", OURS)]),
        ({"q": STRICT}, DOWN, [("p-1", OURS), ("p-2", OURS), ("q-1", OWN)]),
        ({"other": STRICT}, DOWN, [("p-1", OURS), ("p-2", OURS), ("q-1", OURS)]),
    ],
)
def test_owners_key_follows_an_own_one_only_where_that_was_allowed(
    keys: OwnKeys, error: ProviderError, expected: list[tuple[str, bool]]
) -> None:
    assert expected == tried(["p-1", "p-2", "q-1"], keys, error)[0]


def test_tries_are_bounded() -> None:
    found, _ = tried(["p-1", "p-2", "q-1"], {"p": LENIENT}, REFUSED, tries_max=2)

    assert [("p-1", OWN), ("p-1", OURS)] == found


def test_each_model_has_its_own_bound_of_tries() -> None:
    async def read() -> OwnKeys:
        return {}

    models = [Try(leg(), place(name), 1) for name in ("p-1", "q-1")]
    tries = OwnTries(iter(models), {"p": LENIENT, "q": LENIENT}, tries_max=1, read=read)
    found = [(turn.deployment.name, tries.failed(REFUSED).failure) for turn in tries]

    assert [("p-1", Failure.KEY_REFUSED), ("q-1", Failure.KEY_REFUSED)] == found


def test_refusal_of_an_own_key_says_nothing_about_the_deployment_or_the_owner() -> None:
    _, (error,) = tried(["p-1"], {"p": STRICT}, REFUSED)
    _, (limited,) = tried(["p-1"], {"p": STRICT}, LIMITED)

    assert {error.failure, limited.failure}.isdisjoint(BREAKING)
    assert (Failure.KEY_REFUSED, 401) == (error.failure, error.status)
    assert "Provider p refused the account's own key (HTTP 401)." == error.message
    assert (Failure.KEY_LIMITED, 7.2) == (limited.failure, limited.retry_after_s)


def test_other_failures_stay_what_they_are() -> None:
    assert [DOWN] == tried(["p-1"], {"p": STRICT}, DOWN)[1]
    assert [REFUSED] == tried(["p-1"], {}, REFUSED)[1]


async def test_key_is_looked_up_again_before_the_next_try() -> None:
    later = OwnKey(SecretStr("sk-later"), has_fallback=False)

    async def read() -> OwnKeys:
        return {"p": later}

    tries = OwnTries(turns("p-1", "p-2"), {"p": STRICT}, tries_max=9, read=read)
    next(tries)
    await tries.refresh()
    next(tries)

    assert later == tries.key


async def test_key_that_was_deleted_meanwhile_is_not_replaced_by_the_owners() -> None:
    async def read() -> OwnKeys:
        return {}

    tries = OwnTries(turns("p-1", "p-2"), {"p": STRICT}, tries_max=9, read=read)
    next(tries)
    await tries.refresh()

    assert [] == list(tries)


def test_key_that_cannot_be_opened_ends_the_request() -> None:
    unreadable = OwnKey(None, has_fallback=True)

    with pytest.raises(TurnpikeError, match="store it again") as caught:
        tried(["p-1", "q-1"], {"p": unreadable}, DOWN)

    assert Reason.UNAVAILABLE is caught.value.reason


@pytest.mark.parametrize("kind", ["triton", "sagemaker", "vertex"])
def test_kind_without_a_plain_key_takes_none(kind: str) -> None:
    assert None is own_key({"p": STRICT}, place("p-1", kind))


def verdicts() -> Iterator[tuple[list[ProviderError], Reason, dict[str, str]]]:
    refused = ProviderError(Failure.KEY_REFUSED, "Provider p refused.")
    limited = ProviderError(Failure.KEY_LIMITED, "Provider p limits.", retry_after_s=7.2)
    yield [refused], Reason.PROVIDER_KEY_REFUSED, {}
    yield [refused, limited], Reason.PROVIDER_KEY_REFUSED, {}
    yield [limited], Reason.RATE_LIMIT_EXCEEDED, {"retry_after_s": "7"}
    summary = "d:key_refused,d:unavailable"
    yield [refused, DOWN], Reason.ALL_PROVIDERS_FAILED, {"attempts": summary}


@pytest.mark.parametrize(("errors", "reason", "metadata"), list(verdicts()))
def test_caller_is_told_what_is_its_own_to_mend(
    errors: list[ProviderError], reason: Reason, metadata: dict[str, str]
) -> None:
    attempts = Attempts()
    for error in errors:
        attempts.add("d", error)

    found = attempts.verdict()

    assert (reason, metadata) == (found.reason, found.metadata)


def test_call_with_a_key_does_not_show_it() -> None:
    call = Call("", "", 0, "", "", False, 1, b"", 1.0, credential=SecretStr("sk-own-canary"))

    assert "canary" not in repr(call) + str(call) + repr(STRICT)
