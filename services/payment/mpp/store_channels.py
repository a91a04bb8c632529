"""Statements about channels, challenges and what channels spent; each runs in its caller's write.

A caller holds the ledger's head (`Books`), which puts everything on all channels in one line.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, exists, func, or_, select, update

from services.payment.mpp.channels import Channel
from services.payment.mpp.payloads import Descriptor
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.states import ChannelState
from services.payment.mpp.store_notes import IS_POSTED
from services.payment.mpp.tables import (
    channel_vouchers,
    channels,
    noted_charges,
    used_challenges,
)
from services.payment.store_tables import accounts, leases

_FIND: Final = select(channels).where(channels.c.channel_id == bindparam("channel"))
_CHARGED: Final = select(accounts.c.charged_nusd).where(
    accounts.c.account_id == bindparam("account")
)
_NOTED: Final = (
    select(func.coalesce(func.sum(noted_charges.c.charge_nusd), 0))
    .where(noted_charges.c.account_id == bindparam("account"))
    .where(~IS_POSTED)
)
_RUNNING: Final = (
    select(func.count())
    .select_from(leases)
    .where(leases.c.account_id == bindparam("account"), leases.c.state == "open")
    .where(~exists().where(noted_charges.c.lease_id == leases.c.lease_id))
)
_IS_HELD: Final = exists().where(
    leases.c.lease_id == noted_charges.c.lease_id, leases.c.state == "open"
)
_DROP_NOTES: Final = delete(noted_charges).where(
    or_(IS_POSTED, noted_charges.c.charge_nusd == 0), ~_IS_HELD
)
_DROP_CHALLENGES: Final = delete(used_challenges).where(
    used_challenges.c.expires_unix_s < bindparam("before")
)
_CHALLENGE: Final = select(used_challenges.c.request_id).where(
    used_challenges.c.challenge_id == bindparam("challenge")
)
_BEST_VOUCHER: Final = (
    select(channel_vouchers.c.cumulative, channel_vouchers.c.signature)
    .where(channel_vouchers.c.channel_id == bindparam("channel"))
    .where(channel_vouchers.c.cumulative <= bindparam("most"))
    .order_by(channel_vouchers.c.cumulative.desc())
    .limit(1)
)
_OLD_VOUCHERS: Final = delete(channel_vouchers).where(
    channel_vouchers.c.channel_id == bindparam("channel"),
    channel_vouchers.c.cumulative <= bindparam("settled"),
)


def find(connection: Connection, channel_id: str) -> Channel | None:
    """Return a channel, None when there is none of this id."""
    row = connection.execute(_FIND, {"channel": channel_id}).mappings().one_or_none()
    return None if row is None else channel_of(row)


def known(connection: Connection, channel_id: str) -> Channel:
    """Return a channel.

    Raises:
        PaymentError: session/channel-not-found.
    """
    found = find(connection, channel_id)
    if found is None:
        raise PaymentError(Slug.CHANNEL_NOT_FOUND, "There is no channel of this id.")
    return found


def channel_of(row: Mapping[Any, Any]) -> Channel:
    """Return the channel in a row."""
    return Channel(
        channel_id=row["channel_id"],
        descriptor=Descriptor(
            payer=row["payer"],
            payee=row["payee"],
            operator=row["operator"],
            token=row["token"],
            salt=row["salt"],
            authorized_signer=row["authorized_signer"],
            expiring_nonce_hash=row["expiring_nonce_hash"],
        ),
        open_tx_hash=row["open_tx_hash"],
        state=ChannelState(row["state"]),
        deposit=row["deposit"],
        accepted=row["accepted"],
        settled=row["settled"],
        signature=row["signature"],
        accepted_challenge_id=row["accepted_challenge_id"],
        close_tx_hash=row["close_tx_hash"],
        close_accepted=row["close_accepted"],
        grace_end_unix_s=row["grace_end_unix_s"],
        checked_unix_ms=row["checked_unix_ms"],
        used_unix_ms=row["used_unix_ms"],
        settled_unix_ms=row["settled_unix_ms"],
    )


def add(connection: Connection, channel: Channel) -> None:
    """Store a new channel."""
    descriptor = channel.descriptor
    connection.execute(
        channels.insert(),
        {
            "channel_id": channel.channel_id,
            "payer": descriptor.payer,
            "payee": descriptor.payee,
            "operator": descriptor.operator,
            "token": descriptor.token,
            "salt": descriptor.salt,
            "authorized_signer": descriptor.authorized_signer,
            "expiring_nonce_hash": descriptor.expiring_nonce_hash,
            "open_tx_hash": channel.open_tx_hash,
            "state": channel.state.value,
            "deposit": channel.deposit,
            "accepted": channel.accepted,
            "signature": channel.signature,
            "accepted_challenge_id": channel.accepted_challenge_id,
            "settled": channel.settled,
            "close_tx_hash": channel.close_tx_hash,
            "close_accepted": channel.close_accepted,
            "grace_end_unix_s": channel.grace_end_unix_s,
            "checked_unix_ms": channel.checked_unix_ms,
            "used_unix_ms": channel.used_unix_ms,
            "settled_unix_ms": channel.settled_unix_ms,
        },
    )


def change(connection: Connection, channel_id: str, **values: object) -> None:
    """Write columns of a channel."""
    connection.execute(update(channels).where(channels.c.channel_id == channel_id).values(**values))


def keep_voucher(
    connection: Connection, channel_id: str, *, cumulative: int, signature: bytes
) -> None:
    """Store a voucher, and that it is the highest."""
    row = {"channel_id": channel_id, "cumulative": cumulative, "signature": signature}
    connection.execute(channel_vouchers.insert(), row)
    change(connection, channel_id, accepted=cumulative, signature=signature)


def best_voucher(connection: Connection, channel_id: str, *, most: int) -> tuple[int, bytes] | None:
    """Return the highest voucher that is not above an amount: its amount and signature."""
    row = connection.execute(_BEST_VOUCHER, {"channel": channel_id, "most": most}).one_or_none()
    return None if row is None else (row[0], row[1])


def drop_vouchers(connection: Connection, channel_id: str, *, settled: int) -> None:
    """Forget vouchers that the chain has paid."""
    connection.execute(_OLD_VOUCHERS, {"channel": channel_id, "settled": settled})


def drop_beaten(connection: Connection, channel_id: str, *, spent: int) -> None:
    """Forget vouchers below the one that would be settled now; at most so many base units."""
    best = best_voucher(connection, channel_id, most=spent)
    if best is not None:
        drop_vouchers(connection, channel_id, settled=best[0] - 1)


def spent_nusd(connection: Connection, account_id: str) -> int:
    """Return what an account was charged, with charges that are noted and on their way."""
    row = {"account": account_id}
    charged = connection.execute(_CHARGED, row).scalar() or 0
    return int(charged) + noted_nusd(connection, account_id)


def noted_nusd(connection: Connection, account_id: str) -> int:
    """Return what an account is about to be charged."""
    return int(connection.execute(_NOTED, {"account": account_id}).scalar_one())


def running_count(connection: Connection, account_id: str) -> int:
    """Return how many requests of an account run: leases whose end nobody has told."""
    return int(connection.execute(_RUNNING, {"account": account_id}).scalar_one())


def user_of(connection: Connection, challenge_id: str) -> str | None:
    """Return the id of the request that used up a challenge; None while nobody did."""
    found = connection.execute(_CHALLENGE, {"challenge": challenge_id}).scalar()
    return None if found is None else str(found)


def use_challenge(
    connection: Connection, challenge_id: str, *, request_id: str, expires_unix_s: int
) -> None:
    """Use up a challenge that nobody used: it authorises one delivery."""
    connection.execute(
        used_challenges.insert(),
        {
            "challenge_id": challenge_id,
            "request_id": request_id,
            "expires_unix_s": expires_unix_s,
        },
    )


def prune(connection: Connection, *, before_unix_s: int) -> None:
    """Forget challenges that have ended, and notes of charges that are posted."""
    connection.execute(_DROP_NOTES)
    connection.execute(_DROP_CHALLENGES, {"before": before_unix_s})
