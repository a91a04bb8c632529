"""What lends keys at AWS, on real sockets: a container's agent, an instance's metadata, and STS."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from tests.fakes.aws_server import KEY_ID, SECRET, TOKEN

ROLE = "arn:aws:iam::123456789012:role/turnpike"
SHOWN = "token-of-the-file"
_IMDS = "token-of-the-instance"
_STS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <Credentials>
      <AccessKeyId>{key_id}</AccessKeyId>
      <SecretAccessKey>{secret}</SecretAccessKey>
      <SessionToken>{token}</SessionToken>
      <Expiration>{end}</Expiration>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>
"""


@dataclass(slots=True)
class AwsIdentity:
    """The fake's memory: how often each path was asked; `status` is what it answers with."""

    port: int = 0
    end_unix_s: int = 4_000_000_000
    status: int = 200
    body: str | None = None
    is_slow: bool = False
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def base_url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def end(self) -> str:
        """When the keys end, as AWS spells it."""
        return datetime.fromtimestamp(self.end_unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def keys(self) -> str:
        """Return the keys as metadata has them."""
        found = {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "Token": TOKEN}
        return json.dumps({"Code": "Success", "Type": "AWS-HMAC", **found, "Expiration": self.end})


@asynccontextmanager
async def open_aws_identity() -> AsyncIterator[AwsIdentity]:
    """Listen on 127.0.0.1."""
    fake = AwsIdentity()

    async def serve(request: web.Request) -> web.Response:
        fake.asked[request.path] += 1
        if fake.is_slow:
            await asyncio.sleep(30)
        if fake.body is not None or fake.status != 200:
            return web.Response(text=fake.body or "secret", status=fake.status)
        return await _answer(fake, request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.port = runner.addresses[0][1]
    try:
        yield fake
    finally:
        await runner.cleanup()


async def _answer(fake: AwsIdentity, request: web.Request) -> web.Response:
    headers, roles = request.headers, "/latest/meta-data/iam/security-credentials/"
    if request.path == "/latest/api/token":
        is_right = request.method == "PUT" and "X-aws-ec2-metadata-token-ttl-seconds" in headers
        return web.Response(text=_IMDS) if is_right else web.Response(status=400)
    if request.path.startswith(roles):
        if headers.get("X-aws-ec2-metadata-token") != _IMDS:
            return web.Response(status=401)
        return web.Response(text="turnpike-role" if request.path == roles else fake.keys())
    if request.path == "/v1/credentials":
        is_shown = headers.get("Authorization") == SHOWN
        return web.Response(text=fake.keys()) if is_shown else web.Response(status=403)
    form = await request.post()
    asked = (form.get("Action"), form.get("RoleArn"), form.get("WebIdentityToken"))
    if asked != ("AssumeRoleWithWebIdentity", ROLE, SHOWN) or form.get("Version") != "2011-06-15":
        return web.Response(status=400)
    text = _STS.format(key_id=KEY_ID, secret=SECRET, token=TOKEN, end=fake.end)
    return web.Response(text=text, content_type="text/xml")
