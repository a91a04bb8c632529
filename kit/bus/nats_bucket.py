"""A bucket of JetStream's key-value store, as far as values that fade away need it.

The stream's leader is asked, so that whoever reads after a put was acknowledged finds the value.
"""

import json
from base64 import b64decode
from typing import Final

from kit.bus.nats_link import NatsLink
from kit.bus.nats_streams import (
    API,
    JetStreamRefusedError,
    bucket_stream,
    bucket_subject,
    decode_answer,
    make_bucket,
)
from kit.bus.port import Bucket, BucketSpec, BusUnavailableError, ValueTooBigError

_MAKE_S: Final = 5.0
_NO_MESSAGE: Final = 10037
_NO_STREAM: Final = 10059


class NatsBucket(Bucket):
    """One bucket over one connection."""

    def __init__(self, link: NatsLink, spec: BucketSpec) -> None:
        self._link = link
        self._spec = spec
        self._is_made = False
        self._get_subject = f"{API}.STREAM.MSG.GET.{bucket_stream(spec.name)}"

    async def get(self, key: str, *, timeout_s: float) -> bytes | None:
        """Return a value, None when there is none any more.

        Raises:
            BusUnavailableError: No answer came in time.
        """
        wish = {"last_by_subj": bucket_subject(self._spec.name, key)}
        message = await self._link.request(
            self._get_subject, json.dumps(wish).encode(), timeout_s=timeout_s
        )
        try:
            found = decode_answer(message).get("message")
        except JetStreamRefusedError as error:
            if error.err_code in (_NO_MESSAGE, _NO_STREAM):
                return None
            raise
        if not isinstance(found, dict):
            raise BusUnavailableError("The answer is not JetStream's.")
        return b64decode(found.get("data", ""))

    async def put(self, key: str, value: bytes, *, timeout_s: float) -> None:
        """Keep a value in the place of an older one, making the bucket when it is missing.

        Raises:
            BusUnavailableError: No acknowledgement came in time.
            ValueTooBigError: It is bigger than `value_bytes_max`.
        """
        if len(value) > self._spec.value_bytes_max:
            raise ValueTooBigError(key)
        if not self._is_made:
            await make_bucket(self._link, self._spec, timeout_s=_MAKE_S)
            self._is_made = True
        try:
            subject = bucket_subject(self._spec.name, key)
            decode_answer(await self._link.request(subject, value, timeout_s=timeout_s))
        except BusUnavailableError:
            # NATS may have lost the bucket; the next put sees to it.
            self._is_made = False
            raise
