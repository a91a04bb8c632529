"""Making JetStream's streams and durable consumers, and reading what it answers."""

import json
from typing import Any, Final

from nats.aio.msg import Msg
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from kit.bus.limits import ACK_PENDING_MAX, ACK_WAIT_S
from kit.bus.nats_link import NatsLink
from kit.bus.port import BucketSpec, BusUnavailableError, StreamSpec

API: Final = "$JS.API"
_OTHER_CONFIGURATION: Final = 10058


class JetStreamRefusedError(BusUnavailableError):
    """JetStream answered with an error; `err_code` is its number for it."""

    def __init__(self, description: str, err_code: int) -> None:
        super().__init__(f"NATS refused: {description} ({err_code}).")
        self.err_code = err_code


def decode_answer(message: Msg) -> dict[str, Any]:
    """Return JetStream's answer.

    Raises:
        BusUnavailableError: It is an error, or no answer of JetStream.
    """
    try:
        answer = json.loads(message.data)
    except ValueError:
        raise BusUnavailableError("The answer is not JetStream's.") from None
    if not isinstance(answer, dict):
        raise BusUnavailableError("The answer is not JetStream's.")
    error = answer.get("error")
    if error is not None:
        raise JetStreamRefusedError(str(error.get("description")), int(error.get("err_code", 0)))
    return answer


async def make_stream(link: NatsLink, stream: StreamSpec, *, timeout_s: float) -> None:
    """Make the stream, or bring an existing one to this form.

    Raises:
        BusUnavailableError: NATS is away or refuses, for example for want of room.
    """
    await _make(link, _stream_config(stream), timeout_s)


async def make_bucket(link: NatsLink, bucket: BucketSpec, *, timeout_s: float) -> None:
    """Make the stream of a bucket, or bring an existing one to this form.

    Raises:
        BusUnavailableError: NATS is away or refuses, for example for want of room.
    """
    await _make(link, _bucket_config(bucket), timeout_s)


async def make_consumer(
    link: NatsLink, stream: StreamSpec, durable: str, *, timeout_s: float
) -> None:
    """Make the durable pull consumer, or bring an existing one to this form.

    Raises:
        BusUnavailableError: NATS is away or refuses, for example because the stream is missing.
    """
    config = ConsumerConfig(
        name=durable,
        durable_name=durable,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        # A message with money in it is never skipped: what cannot be applied is given up by name.
        max_deliver=-1,
        max_ack_pending=ACK_PENDING_MAX,
    )
    request = _json({"stream_name": stream.name, "config": config.as_dict()})
    await _ask(link, f"CONSUMER.CREATE.{stream.name}.{durable}", request, timeout_s)


def _stream_config(stream: StreamSpec) -> StreamConfig:
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_bytes=stream.bytes_max,
        max_age=stream.age_max_s,
        duplicate_window=stream.duplicate_window_s,
        num_replicas=stream.replicas,
    )


def bucket_stream(name: str) -> str:
    """Return the name of a bucket's stream."""
    return f"KV_{name}"


def bucket_subject(name: str, key: str) -> str:
    """Return the subject of a bucket's key, `>` for all of them."""
    return f"$KV.{name}.{key}"


def _bucket_config(bucket: BucketSpec) -> StreamConfig:
    # Source: docs.nats.io, ADR-8 "JetStream based Key-Value Stores". A store refuses when it is
    # full; a bucket here is a memory that may forget.
    return StreamConfig(
        name=bucket_stream(bucket.name),
        subjects=[bucket_subject(bucket.name, ">")],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_bytes=bucket.bytes_max,
        max_age=bucket.ttl_s,
        max_msgs_per_subject=1,
        allow_rollup_hdrs=True,
        allow_direct=True,
        deny_delete=True,
        num_replicas=bucket.replicas,
    )


async def _make(link: NatsLink, config: StreamConfig, timeout_s: float) -> None:
    request = _json(config.as_dict())
    try:
        await _ask(link, f"STREAM.CREATE.{config.name}", request, timeout_s)
    except JetStreamRefusedError as error:
        if error.err_code != _OTHER_CONFIGURATION:
            raise
        await _ask(link, f"STREAM.UPDATE.{config.name}", request, timeout_s)


async def _ask(link: NatsLink, method: str, request: bytes, timeout_s: float) -> None:
    decode_answer(await link.request(f"{API}.{method}", request, timeout_s=timeout_s))


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
