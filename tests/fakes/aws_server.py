"""What fakes of AWS have in common: a server on a free port that checks signatures as botocore
makes them, remembers what it saw, and sends its answers in pieces of any size."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "token//of+the=session"
API_KEY = "bedrock-api-key-of-the-fake"
REGION = "eu-west-1"
EVENT_STREAM = "application/vnd.amazon.eventstream"


@dataclass(slots=True)
class Seen:
    """One request, and what its answer reported and became of it."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    body: Any = None
    usage: dict[str, int] | None = None
    messages_sent: int = 0
    is_complete: bool = False
    is_aborted: bool = False
    is_over: bool = False


@dataclass(slots=True)
class AwsServer:
    """The fake's memory."""

    service: str
    port: int = 0
    seen: list[Seen] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        """What a provider is given."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(slots=True)
class Frames:
    """A streamed answer: messages, and what goes wrong before the one of number `fail_at`.

    `fail` is cut, junk or hang. `split` is bytes per write; 0 is a message per write.
    `delay_ms` is the pause before each message.
    """

    messages: list[bytes]
    fail: str = ""
    fail_at: int = -1
    split: int = 0
    delay_ms: int = 0
    kind: str = EVENT_STREAM
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Whole:
    """An answer in one piece; `error` goes into the header that names errors.

    Of one that is cut only the first half comes.
    """

    body: bytes
    status: int = 200
    error: str = ""
    is_cut: bool = False
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Seen], Frames | Whole]


def refusal(error: str, message: str, status: int, **more: Any) -> Whole:
    """Return an error as AWS answers it."""
    return Whole(json.dumps({"message": message, **more}).encode(), status, error)


def is_authentic(seen: Seen, service: str, authority: str) -> bool:
    """Return whether a request shows the fake's key, or is signed with it."""
    shown = seen.headers.get("authorization", "")
    if shown.startswith("Bearer "):
        return shown == f"Bearer {API_KEY}"
    _, _, rest = shown.partition("SignedHeaders=")
    names = rest.partition(",")[0].split(";")
    signed = {n: seen.headers.get(n, "") for n in names if n not in ("host", "x-amz-date")}
    # A token among the headers is put there by the signer too.
    token = signed.pop("x-amz-security-token", None)
    if token not in (None, TOKEN) or "x-amz-date" not in names or "content-type" not in names:
        return False
    url = f"http://{authority}{seen.path}"
    request = AWSRequest(seen.method, url, headers=signed, data=seen.raw)
    stamp = seen.headers.get("x-amz-date", "")
    request.context["timestamp"] = stamp
    region = shown.partition("Credential=")[2].split("/")[2:3]
    auth = SigV4Auth(Credentials(KEY_ID, SECRET, token), service, region[0] if region else "")
    auth._modify_request_before_signing(request)
    to_sign = auth.string_to_sign(request, auth.canonical_request(request))
    signature = auth.signature(to_sign, request)
    auth._inject_signature_to_request(request, signature)
    return request.headers["Authorization"] == shown and region == [REGION]


@asynccontextmanager
async def open_aws_server(service: str, handler: Handler) -> AsyncIterator[AwsServer]:
    """Listen on 127.0.0.1; what `handler` says of a request is its answer."""
    server = AwsServer(service)

    async def serve(request: web.Request) -> web.StreamResponse:
        seen = Seen(
            request.method,
            request.raw_path,
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
        )
        with suppress(ValueError):
            seen.body = json.loads(seen.raw)
        if request.method == "GET":
            return web.Response(text="healthy")
        server.seen.append(seen)
        if not is_authentic(seen, service, request.host):
            return await _whole(refusal("InvalidSignatureException", "secret", 403))
        answer = handler(seen)
        try:
            if isinstance(answer, Whole):
                response: web.StreamResponse = await _whole(answer)
                if answer.is_cut:
                    await _half(request, answer)
            else:
                response = await _stream(request, seen, answer)
            seen.is_complete = True
        except (asyncio.CancelledError, ConnectionError):
            seen.is_aborted = True
            raise
        finally:
            seen.is_over = True
        return response

    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_route("*", "/{tail:.*}", serve)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


async def _whole(answer: Whole) -> web.StreamResponse:
    headers = {"content-type": answer.kind, **answer.headers}
    if answer.error:
        headers["x-amzn-errortype"] = f"{answer.error}:http://internal.amazon.com/coral/"
    return web.Response(body=answer.body, status=answer.status, headers=headers)


async def _half(request: web.Request, answer: Whole) -> None:
    response = web.StreamResponse(headers={"content-type": answer.kind})
    response.content_length = len(answer.body)
    await response.prepare(request)
    await _fail(request, response.write, "cut", answer.body)


async def _stream(request: web.Request, seen: Seen, answer: Frames) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": answer.kind, **answer.headers})
    response.enable_chunked_encoding()
    await response.prepare(request)
    write: Callable[[bytes], Awaitable[None]] = response.write
    for number, message in enumerate(answer.messages):
        if answer.delay_ms:
            await asyncio.sleep(answer.delay_ms / 1000)
        if number == answer.fail_at:
            await _fail(request, write, answer.fail, message)
        size = answer.split or len(message)
        for at in range(0, len(message), size):
            await write(message[at : at + size])
            # Lets a reader that has gone away be noticed, and reads be as small as writes.
            await asyncio.sleep(0)
        seen.messages_sent = number + 1
    await response.write_eof()
    return response


async def _fail(
    request: web.Request, write: Callable[[bytes], Awaitable[None]], how: str, message: bytes
) -> None:
    if how == "hang":
        await asyncio.get_running_loop().create_future()
    if how == "junk":
        await write(b"\x00\x00\x00\x20secret prompt text and no stream")
        return
    await write(message[: len(message) // 2])
    await asyncio.sleep(0.01)
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError
