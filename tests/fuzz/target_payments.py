"""Fuzz targets: payment credentials and challenges, which strangers write into headers."""

import copy
import json
from typing import Any, Final

from services.payment.mpp.accept import preferred
from services.payment.mpp.challenge import Challenge, header_value, is_ours, read_challenges
from services.payment.mpp.credential import Credential, credential_value, read_credential
from services.payment.mpp.encoding import encode_base64url
from services.payment.mpp.payloads import Close, Open, Voucher, read_payload
from services.payment.mpp.problems import PaymentError
from services.payment.mpp.voucher import RESERVE, channel_id, check_voucher, domain_separator
from tests.fuzz.writing import ODD, Writer, source_of
from tests.unit.payment.mpp.vectors import CHAIN_ID, CHALLENGES, CREDENTIALS, SECRET, VOUCHERS

_DECODED: Final = [row["decoded"] for row in CREDENTIALS.values()]
_HEADERS: Final = [row["www_authenticate"] for row in CHALLENGES]
_SIGNED: Final = {(row["channelId"], int(row["cumulativeAmount"])) for row in VOUCHERS.values()} | {
    (one["payload"]["channelId"], int(one["payload"]["cumulativeAmount"]))
    for one in _DECODED
    if "signature" in one["payload"]
}
_OFFERED: Final = ["tempo/session", "tempo/charge"]
_TEXTS: Final = [
    *("0", "75", "-1", "01", "1e3", str(2**96 - 1), str(2**96), "0x", "0x1b", "open", "topUp"),
    *("0X" + "00" * 32, "0x" + "FF" * 20, "0x" + "5a" * 65, "proof", "hash", "charge", "session"),
]
_CUTS: Final = [
    '"',
    "\\",
    ",",
    ", ",
    "=",
    " ",
    "Payment ",
    "\\u",
    "\\ud800",
    "\t",
    '"", ',
    "%",
    "é",
]


def payment_credential(data: bytes) -> None:
    """A credential is read as what would be written, or refused; only what was signed is taken."""
    source = source_of(data)
    kind = source.ConsumeIntInRange(0, 3)
    if kind == 0:
        value = source.ConsumeBytes(4096).decode("latin-1")
    elif kind == 1:
        value = encode_base64url(source.ConsumeBytes(4096))
    else:
        value = encode_base64url(_spoilt(source))
    try:
        read = read_credential(value)
    except PaymentError:
        return
    assert read == read_credential(credential_value(read))
    _hold(read)


def _spoilt(source: Any) -> bytes:
    """Return a recorded credential with some members replaced, as JSON."""
    writer = Writer(source, {})
    members = copy.deepcopy(writer.pick(_DECODED))
    odd: dict[str, bytes] = {}
    for number in range(source.ConsumeIntInRange(0, 3)):
        place = members
        while True:
            name = writer.pick(sorted(place))
            if not isinstance(place[name], dict) or source.ConsumeBool():
                break
            place = place[name]
        if source.ConsumeBool():
            place[name] = writer.pick(_TEXTS)
        else:
            odd[f'"odd-{number}"'] = writer.pick(ODD)
            place[name] = f"odd-{number}"
    written = json.dumps(members).encode()
    for mark, raw in odd.items():
        written = written.replace(mark.encode(), raw)
    return written


def _hold(read: Credential) -> None:
    """Go on with a credential as the server does, up to the signature."""
    try:
        _ = (read.challenge.request, read.challenge.opaque)
        payload = read_payload(read.challenge.intent, read.payload)
        if not isinstance(payload, Open | Voucher | Close):
            return
        if channel_id(payload.descriptor, RESERVE, CHAIN_ID) != payload.channel_id:
            return
        check_voucher(
            payload.signature,
            domain=domain_separator(RESERVE, CHAIN_ID),
            channel=payload.channel_id,
            cumulative_base_units=payload.cumulative_base_units,
            signer=payload.descriptor.signer,
        )
    except PaymentError:
        return
    assert (payload.channel_id, payload.cumulative_base_units) in _SIGNED


def payment_challenge(data: bytes) -> None:
    """A header is read as what would be written, or refused; nothing but ours is ours."""
    source = source_of(data)
    writer = Writer(source, {})
    header = writer.pick(_HEADERS) if source.ConsumeBool() else ""
    for _ in range(source.ConsumeIntInRange(0, 4)):
        at = source.ConsumeIntInRange(0, len(header))
        cut = at + source.ConsumeIntInRange(0, 3)
        header = header[:at] + writer.pick(_CUTS) + header[cut:]
    header += source.ConsumeUnicodeNoSurrogates(1024)
    assert set(preferred(header, _OFFERED)) <= set(_OFFERED)
    try:
        found = read_challenges(header)
    except ValueError:
        return
    for challenge in found:
        _write_again(challenge)
        if is_ours(challenge, [SECRET]):
            assert challenge.id in [row["id"] for row in CHALLENGES]


def _write_again(challenge: Challenge) -> None:
    try:
        value = header_value(challenge)
    except ValueError:
        return
    assert [challenge] == read_challenges(value)
