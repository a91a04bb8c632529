"""Quotes: signed promises of prices to one account, for one model, until a moment. Pure.

A quote is stateless: its id is its fields, framed, with a signature, `q1.<fields>.<signature>`,
both base64url. What is charged is, figure by figure, the lower of the quoted and the current price,
so that a quote never makes anything dearer.
"""

from typing import Final, NamedTuple

from kit.errors import Reason, TurnpikeError
from services.payment.proof import signing
from services.payment.proof.framing import framed, named
from services.payment.proof.signing import Keyring, Signer, base64url, from_base64url

HEADER: Final = "X-Quote-Id"
QUOTE_CHARS_MAX: Final = 2_048
_PREFIX: Final = "q1"


class Quote(NamedTuple):
    """A promise; prices are pico-USD. `name` tells it apart and becomes the price row's id."""

    name: str
    account_id: str
    model_id: str
    expires_unix_ms: int
    key_id: str
    input_pusd_per_token: int
    output_pusd_per_token: int
    request_pusd: int
    unit_pusd: int
    unit: str


def sign_quote(quote: Quote, signer: Signer) -> str:
    """Return a quote's id."""
    data = framed([str(value) for value in quote]).encode()
    return ".".join((_PREFIX, base64url(data), base64url(signer.sign(signing.QUOTE, data))))


def read_quote(
    quote_id: str, keys: Keyring, *, account_id: str, model_id: str, now_ms: int
) -> Quote:
    """Return the quote that an account shows for a model.

    Raises:
        TurnpikeError: INVALID_VALUE, it was changed, is another's, for another model, or is over.
    """
    try:
        quote, data, signature = _opened(quote_id)
    except ValueError:
        raise _refused("is no quote of this service") from None
    if keys.flaw(quote.key_id, signing.QUOTE, data, signature):
        raise _refused("is no quote of this service")
    if quote.account_id != account_id:
        raise _refused("was made to another account")
    if quote.model_id != model_id:
        raise _refused(f"is for {quote.model_id}, not {model_id}")
    if now_ms >= quote.expires_unix_ms:
        over_s = (now_ms - quote.expires_unix_ms) // 1000
        raise _refused(f"is over since {over_s} seconds; ask for a new quote")
    return quote


def _opened(quote_id: str) -> tuple[Quote, bytes, bytes]:
    if len(quote_id) > QUOTE_CHARS_MAX:
        raise ValueError("It is too long.")
    prefix, *parts = quote_id.split(".")
    if prefix != _PREFIX or len(parts) != 2:
        raise ValueError("It is of another form.")
    data, signature = map(from_base64url, parts)
    fields = named(Quote._fields, data.decode())
    numbers = {name for name, kind in Quote.__annotations__.items() if kind is int}
    values = {name: int(text) if name in numbers else text for name, text in fields.items()}
    return Quote(**values), data, signature  # type: ignore[arg-type] # by the annotations above


def _refused(why: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{HEADER} {why}.", param=HEADER)
