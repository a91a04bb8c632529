"""Requests are checked field by field before anything is touched."""

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from kit.ids import Uuid7Source
from services.auth.accounts import check_name
from services.auth.limits import Limits
from services.auth.messages import (
    KeyMessages,
    Page,
    ask_of,
    page_of,
    page_token_of,
    request_id_of,
    uuid_text,
)
from services.auth.settings import AuthSettings, TierSettings
from services.auth.tiers import Tiers
from turnpike.auth.v1 import auth_pb2 as pb

ID = Uuid7Source().new(1_760_000_000_000)
MESSAGES = KeyMessages(
    Tiers({"default": Limits(6, 60)}, default="default"),
    clock=ManualClock(),
    rotation_overlap_ms=86_400_000,
)


def key_request(**fields: object) -> pb.CreateKeyRequest:
    return pb.CreateKeyRequest(account_id=ID, **fields)  # type: ignore[arg-type]


def rotation(overlap: Duration | None) -> pb.RotateKeyRequest:
    return pb.RotateKeyRequest(key_id=ID, overlap=overlap)


@pytest.mark.parametrize(
    ("check", "param"),
    [
        (lambda: uuid_text("nonsense", "account_id"), "account_id"),
        (lambda: uuid_text("x' OR 1=1 --", "key_id"), "key_id"),
        (lambda: request_id_of("7"), "request_id"),
        (lambda: page_of(-1, ""), "page_size"),
        (lambda: page_of(1001, ""), "page_size"),
        (lambda: page_of(1, "é"), "page_token"),
        (lambda: page_of(1, "AAAA"), "page_token"),
        (lambda: page_of(1, ID), "page_token"),
        (lambda: page_of(1, "A" * 100_000), "page_token"),
        (lambda: check_name("x" * 121, is_required=True), "name"),
        (lambda: check_name("a\nb", is_required=False), "name"),
        (lambda: MESSAGES.spec_of(key_request(name="x" * 121)), "name"),
        (lambda: MESSAGES.spec_of(key_request(scopes=["all"])), "scopes"),
        (lambda: MESSAGES.spec_of(key_request(models=[""])), "models"),
        (lambda: MESSAGES.spec_of(key_request(tier="gold")), "tier"),
        (lambda: MESSAGES.spec_of(key_request(dialect="latin")), "dialect"),
        (
            lambda: MESSAGES.spec_of(key_request(requests_per_minute=-1)),
            "requests_per_minute",
        ),
        (lambda: MESSAGES.spec_of(key_request(tokens_per_minute=2**62)), "tokens_per_minute"),
        (lambda: MESSAGES.spec_of(key_request(expire_time=Timestamp())), "expire_time"),
        (
            lambda: MESSAGES.spec_of(key_request(expire_time=Timestamp(seconds=1_760_000_000))),
            "expire_time",
        ),
        (
            lambda: MESSAGES.spec_of(key_request(expire_time=Timestamp(seconds=2**62))),
            "expire_time",
        ),
        (
            lambda: MESSAGES.spec_of(
                key_request(expire_time=Timestamp(seconds=1_800_000_000, nanos=-1))
            ),
            "expire_time",
        ),
        (lambda: MESSAGES.overlap_ms_of(rotation(Duration(seconds=-1))), "overlap"),
        (lambda: MESSAGES.overlap_ms_of(rotation(Duration(nanos=-1))), "overlap"),
        (lambda: MESSAGES.overlap_ms_of(rotation(Duration(seconds=2**62))), "overlap"),
        (lambda: ask_of(pb.LeaseRateRequest(request_count=-1)), "request_count"),
        (lambda: ask_of(pb.LeaseRateRequest(token_count=2**62)), "token_count"),
    ],
)
def test_wrong_value_is_refused_by_the_name_of_its_field(
    check: Callable[[], object], param: str
) -> None:
    with pytest.raises(TurnpikeError) as caught:
        check()

    assert (Reason.INVALID_VALUE, param) == (caught.value.reason, caught.value.metadata["param"])


@pytest.mark.parametrize(
    ("check", "param"),
    [
        (lambda: uuid_text("", "key_id"), "key_id"),
        (lambda: check_name("  ", is_required=True), "name"),
        (lambda: MESSAGES.spec_of(pb.CreateKeyRequest()), "account_id"),
        (lambda: ask_of(pb.LeaseRateRequest()), "request_count"),
    ],
)
def test_missing_value_is_refused_by_the_name_of_its_field(
    check: Callable[[], object], param: str
) -> None:
    with pytest.raises(TurnpikeError) as caught:
        check()

    assert (Reason.MISSING_FIELD, param) == (caught.value.reason, caught.value.metadata["param"])


def test_new_key_is_read_with_its_defaults() -> None:
    spec = MESSAGES.spec_of(key_request(name=" app ", requests_per_minute=0))

    assert ("app", ("chat", "models", "usage"), "default") == (spec.name, spec.scopes, spec.tier)
    assert (0, None, None) == (
        spec.requests_per_minute,
        spec.tokens_per_minute,
        spec.expire_unix_ms,
    )


def test_expiry_is_kept_to_the_millisecond() -> None:
    request = key_request(expire_time=Timestamp(seconds=1_760_000_001, nanos=5_900_000))

    assert 1_760_000_001_005 == MESSAGES.spec_of(request).expire_unix_ms


def test_overlap_is_the_usual_one_unless_the_call_says() -> None:
    assert 86_400_000 == MESSAGES.overlap_ms_of(rotation(None))
    assert 0 == MESSAGES.overlap_ms_of(rotation(Duration()))
    assert 1_500 == MESSAGES.overlap_ms_of(rotation(Duration(seconds=1, nanos=500_000_000)))


def test_page_token_leads_on_after_its_entry() -> None:
    assert Page(ID, 100) == page_of(0, page_token_of(ID))
    assert Page("", 7) == page_of(7, "")


def test_request_id_is_kept_in_its_usual_form() -> None:
    assert ID == request_id_of(ID.upper())
    assert request_id_of("") is None


def test_settings_start_with_defaults_and_hide_the_pepper() -> None:
    settings = AuthSettings.model_validate({"pepper": "canary"})

    assert {"default"} == set(settings.tiers)
    assert "canary" not in repr(settings)
    assert all(field.description for field in AuthSettings.model_fields.values())
    assert all(field.description for field in TierSettings.model_fields.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"tiers": {"gold": {}}},
        {"imported_prefixes": [""]},
        {"key_prefix": "a b"},
        {"unknown": 1},
    ],
)
def test_settings_refuse_what_cannot_work(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        AuthSettings.model_validate(wrong)
