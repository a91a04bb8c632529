"""What the chain did, in the books: openings, deposits, settlements, closes and transfers.

Each function is one transaction. An intent is stored before its transaction is sent, and resolved
once: by who sent it, or after a crash by who looks again.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from services.payment import ledger
from services.payment.ledger import Draft, Kind
from services.payment.mpp import postings
from services.payment.mpp import store_channels as rows
from services.payment.mpp.channels import Channel, spent
from services.payment.mpp.postings import account_of
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.states import ChannelState
from services.payment.mpp.store_requests import Promise, accept
from services.payment.mpp.tables import chain_intents, used_transfers
from services.payment.store_books import Books, stored_balances

SETTLE: Final = "settle"
CLOSE: Final = "close"
REFUND: Final = "refund"
PREPARED: Final = "prepared"
DONE: Final = "done"
DROPPED: Final = "dropped"
PENDING: Final = "pending"
PAID: Final = "paid"

_INTENT: Final = select(chain_intents).where(chain_intents.c.tx_hash == bindparam("hash"))
_END_INTENT: Final = (
    update(chain_intents)
    .where(chain_intents.c.tx_hash == bindparam("hash"))
    .values(state=bindparam("new_state"))
)
_OPEN_INTENT: Final = select(chain_intents.c.tx_hash).where(
    chain_intents.c.subject == bindparam("subject"), chain_intents.c.state == PREPARED
)
_TRANSFER: Final = select(used_transfers).where(used_transfers.c.tx_hash == bindparam("hash"))
_END_TRANSFER: Final = (
    update(used_transfers)
    .where(used_transfers.c.tx_hash == bindparam("hash"))
    .values(state=bindparam("new_state"))
)


@dataclass(frozen=True, slots=True)
class Intent:
    """A transaction of ours that is about to be sent; `cumulative` and `amount` in base units.

    `subject` is the channel, or the payer's address of a refund; `amount` what it pays out.
    """

    tx_hash: str
    kind: str
    subject: str
    raw: str
    cumulative: int
    amount: int


@dataclass(frozen=True, slots=True)
class Received:
    """A transfer to us; base units."""

    tx_hash: str
    payer: str
    amount: int
    challenge_id: str


def begin_opening(connection: Connection, channel: Channel) -> Channel:
    """Store a channel before its opening is sent, unless it is known; return the stored one.

    Raises:
        PaymentError: session/channel-finalized, the channel is closed.
    """
    Books(connection)
    found = rows.find(connection, channel.channel_id)
    if found is None:
        rows.add(connection, channel)
        return channel
    if found.state in (ChannelState.FAILED, ChannelState.OPENING):
        rows.change(
            connection,
            channel.channel_id,
            state=ChannelState.OPENING.value,
            used_unix_ms=channel.used_unix_ms,
        )
        return rows.known(connection, channel.channel_id)
    found.check_usable()
    return found


def finish_opening(
    connection: Connection, promise: Promise, *, deposit: int, now_ms: int
) -> Channel:
    """Open a channel with its deposit and take its first voucher; a repeat takes it once."""
    Books(connection)
    found = rows.known(connection, promise.channel_id)
    if found.state in (ChannelState.OPENING, ChannelState.FAILED):
        rows.change(
            connection,
            promise.channel_id,
            state=ChannelState.OPEN.value,
            deposit=deposit,
            checked_unix_ms=now_ms,
            settled_unix_ms=now_ms,
        )
    return accept(connection, promise, now_ms=now_ms)


def fail_opening(connection: Connection, channel_id: str) -> None:
    """Give an opening up that the chain refused."""
    Books(connection)
    found = rows.find(connection, channel_id)
    if found is not None and found.state is ChannelState.OPENING:
        rows.change(connection, channel_id, state=ChannelState.FAILED.value)


def observe(
    connection: Connection, channel_id: str, *, deposit: int, grace_end_unix_s: int, now_ms: int
) -> Channel:
    """Take over what the chain says of a live channel; `grace_end_unix_s` 0: nobody closes it."""
    Books(connection)
    channel = rows.known(connection, channel_id)
    state = channel.state
    if grace_end_unix_s and state is ChannelState.OPEN:
        state = ChannelState.PAYER_CLOSING
    elif not grace_end_unix_s and state is ChannelState.PAYER_CLOSING:
        state = ChannelState.OPEN
    rows.change(
        connection,
        channel_id,
        deposit=max(deposit, channel.deposit),
        grace_end_unix_s=grace_end_unix_s,
        checked_unix_ms=now_ms,
        state=state.value,
    )
    return rows.known(connection, channel_id)


def begin_closing(connection: Connection, channel_id: str) -> Channel:
    """Sell nothing more on a channel; return it as it was, for one that closes already too."""
    Books(connection)
    return _begin_closing(connection, rows.known(connection, channel_id))


def begin_closing_as_seen(connection: Connection, seen: Channel) -> Channel | None:
    """Do as `begin_closing`; None when the channel was closed, taken back or used since."""
    Books(connection)
    channel = rows.known(connection, seen.channel_id)
    if (channel.state, channel.used_unix_ms) != (seen.state, seen.used_unix_ms):
        return None
    return _begin_closing(connection, channel)


def _begin_closing(connection: Connection, channel: Channel) -> Channel:
    if channel.state in (ChannelState.OPEN, ChannelState.PAYER_CLOSING):
        rows.change(connection, channel.channel_id, state=ChannelState.CLOSING.value)
    elif channel.state is not ChannelState.CLOSING:
        channel.check_usable()
    return channel


def reopen(connection: Connection, channel_id: str) -> None:
    """Take a channel back that was not closed after all; not one whose close is on its way."""
    Books(connection)
    channel = rows.known(connection, channel_id)
    if connection.execute(_OPEN_INTENT, {"subject": channel_id}).first() is not None:
        return
    if channel.state is ChannelState.CLOSING:
        state = ChannelState.PAYER_CLOSING if channel.grace_end_unix_s else ChannelState.OPEN
        rows.change(connection, channel_id, state=state.value)


def is_quiet(connection: Connection, channel_id: str) -> bool:
    """Return whether everything a channel bought is posted: nothing is held, nothing noted."""
    account_id = account_of(channel_id)
    name = ledger.held(account_id)
    return (
        stored_balances(connection, [name])[name] == 0
        and rows.noted_nusd(connection, account_id) == 0
    )


def keep_intent(connection: Connection, intent: Intent, *, now_ms: int) -> None:
    """Store an intent before it is sent.

    Raises:
        PaymentError: payment-unavailable, another one of the same subject is on its way, or the
            channel to be closed was taken back or used in between.
    """
    Books(connection)
    if intent.kind == CLOSE:
        _require_final(connection, intent)
    if connection.execute(_OPEN_INTENT, {"subject": intent.subject}).first() is not None:
        raise PaymentError(Slug.PAYMENT_UNAVAILABLE, "The chain still works on this; try again.")
    connection.execute(
        chain_intents.insert(),
        {
            "tx_hash": intent.tx_hash,
            "kind": intent.kind,
            "subject": intent.subject,
            "raw": intent.raw,
            "cumulative": intent.cumulative,
            "amount": intent.amount,
            "state": PREPARED,
            "unix_ms": now_ms,
        },
    )
    if intent.kind == REFUND:
        _send_back(connection, intent, sign=1, now_ms=now_ms)


def _require_final(connection: Connection, intent: Intent) -> None:
    channel = rows.known(connection, intent.subject)
    due = max(spent(rows.spent_nusd(connection, account_of(intent.subject))), channel.settled)
    is_final = channel.state is ChannelState.CLOSING and is_quiet(connection, intent.subject)
    if not is_final or due != intent.amount:
        raise PaymentError(Slug.PAYMENT_UNAVAILABLE, "The channel is in use again; try again.")


def drop_intent(connection: Connection, tx_hash: str, *, now_ms: int) -> None:
    """Give an intent up that was not and will not be mined; a refund's money comes back."""
    Books(connection)
    intent = _open_intent(connection, tx_hash)
    if intent is None:
        return
    connection.execute(_END_INTENT, {"hash": tx_hash, "new_state": DROPPED})
    if intent.kind == REFUND:
        _send_back(connection, intent, sign=-1, now_ms=now_ms)
    elif intent.kind == CLOSE:
        reopen(connection, intent.subject)


def _send_back(connection: Connection, intent: Intent, *, sign: int, now_ms: int) -> None:
    books = Books(connection)
    lines = postings.sent_back(intent.subject, sign * intent.amount)
    reference = intent.tx_hash if sign > 0 else f"{intent.tx_hash}:dropped"
    books.post(Draft(Kind.CHAIN, reference, now_ms, lines))
    books.flush()


def finish_intent(connection: Connection, tx_hash: str, *, now_ms: int) -> None:
    """Post what a mined intent did, once."""
    books = Books(connection)
    intent = _open_intent(connection, tx_hash)
    if intent is None:
        return
    connection.execute(_END_INTENT, {"hash": tx_hash, "new_state": DONE})
    if intent.kind == REFUND:
        return
    channel = rows.known(connection, intent.subject)
    if intent.kind == SETTLE:
        increment = intent.cumulative - channel.settled
        if increment > 0:
            lines = postings.settled(intent.subject, increment)
            books.post(Draft(Kind.CHAIN, tx_hash, now_ms, lines))
            books.flush()
            rows.change(
                connection, intent.subject, settled=intent.cumulative, settled_unix_ms=now_ms
            )
            rows.drop_vouchers(connection, intent.subject, settled=intent.cumulative)
        return
    _post_close(connection, channel, captured=intent.amount, tx_hash=tx_hash, now_ms=now_ms)
    rows.change(connection, intent.subject, close_accepted=intent.cumulative)


def end_by_payer(
    connection: Connection, channel_id: str, *, captured: int, tx_hash: str, now_ms: int
) -> int:
    """Post a channel's end that was not ours; return what was spent and never paid, base units.

    What the chain did not pay of the promise is written off.
    """
    Books(connection)
    channel = rows.known(connection, channel_id)
    if channel.state is ChannelState.CLOSED:
        return 0
    lost = spent(rows.spent_nusd(connection, account_of(channel_id))) - captured
    _post_close(connection, channel, captured=captured, tx_hash=tx_hash, now_ms=now_ms)
    return max(0, lost)


def _post_close(
    connection: Connection, channel: Channel, *, captured: int, tx_hash: str, now_ms: int
) -> None:
    books = Books(connection)
    name = ledger.available(account_of(channel.channel_id))
    lines = postings.closed(
        channel.channel_id,
        accepted=channel.accepted,
        captured=captured,
        settled_before=channel.settled,
        available_nusd=books.balances([name])[name],
    )
    books.post(Draft(Kind.CHAIN, tx_hash, now_ms, lines))
    books.flush()
    rows.change(
        connection,
        channel.channel_id,
        state=ChannelState.CLOSED.value,
        settled=captured,
        settled_unix_ms=now_ms,
        close_tx_hash=tx_hash,
        grace_end_unix_s=0,
    )
    rows.drop_vouchers(connection, channel.channel_id, settled=channel.deposit)


def begin_transfer(connection: Connection, received: Received, *, now_ms: int) -> None:
    """Store a transfer before it is sent or looked up: it pays for one request, ever.

    Raises:
        PaymentError: payment-forbidden, it was used for another challenge.
    """
    Books(connection)
    found = connection.execute(_TRANSFER, {"hash": received.tx_hash}).mappings().one_or_none()
    if found is not None:
        if found["challenge_id"] != received.challenge_id:
            raise PaymentError(Slug.PAYMENT_FORBIDDEN, "The transaction was used before.")
        return
    connection.execute(
        used_transfers.insert(),
        {
            "tx_hash": received.tx_hash,
            "payer": received.payer,
            "amount": received.amount,
            "challenge_id": received.challenge_id,
            "state": PENDING,
            "unix_ms": now_ms,
        },
    )


def finish_transfer(connection: Connection, tx_hash: str, *, now_ms: int) -> None:
    """Post a transfer that was mined, once."""
    books = Books(connection)
    found = connection.execute(_TRANSFER, {"hash": tx_hash}).mappings().one()
    if found["state"] != PENDING:
        return
    lines = postings.transferred(found["payer"], found["amount"])
    books.post(Draft(Kind.TRANSFER, tx_hash, now_ms, lines))
    books.flush()
    connection.execute(_END_TRANSFER, {"hash": tx_hash, "new_state": PAID})


def drop_transfer(connection: Connection, tx_hash: str) -> None:
    """Give a transfer up that the chain refused."""
    Books(connection)
    connection.execute(_END_TRANSFER, {"hash": tx_hash, "new_state": DROPPED})


def transfer_of(connection: Connection, challenge_id: str) -> str:
    """Return the hash of the transfer that paid for a challenge; empty when none did."""
    query = select(used_transfers.c.tx_hash).where(used_transfers.c.challenge_id == challenge_id)
    return str(connection.execute(query).scalar() or "")


def _open_intent(connection: Connection, tx_hash: str) -> Intent | None:
    row = connection.execute(_INTENT, {"hash": tx_hash}).mappings().one_or_none()
    if row is None or row["state"] != PREPARED:
        return None
    return Intent(
        tx_hash=row["tx_hash"],
        kind=row["kind"],
        subject=row["subject"],
        raw=row["raw"],
        cumulative=row["cumulative"],
        amount=row["amount"],
    )
