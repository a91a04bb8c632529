"""Who gives access tokens at Google: the token endpoint and the metadata server, on real sockets.

Assertions are checked by google-auth, which nobody here wrote.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from google.auth import crypt, jwt

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(slots=True)
class GcpAccounts:
    """The fake's memory.

    `claims` are those of the assertions that were taken; `mode` is how it answers: usual, refuse,
    broken, hang or junk.
    """

    key: RSAPrivateKey
    port: int = 0
    claims: list[dict[str, object]] = field(default_factory=list)
    metadata_count: int = 0
    hung_count: int = 0
    mode: str = "usual"
    lifetime_s: float = 3599

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The token that was given last."""
        return f"ya29.fake-{len(self.claims) + self.metadata_count}"

    def key_file(self, folder: Path, **changes: str) -> Path:
        """Write the key file of an account."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = folder / "key.json"
        account = {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "key-1",
            "private_key": private.decode(),
            "client_email": "robot@p.iam.gserviceaccount.com",
            "token_uri": f"{self.url}/token",
            **changes,
        }
        path.write_text(json.dumps(account))
        return path

    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def check(self, body: bytes) -> bool:
        """Take an assertion if google-auth does."""
        form = parse_qs(body.decode())
        if form.get("grant_type") != [GRANT]:
            return False
        try:
            header, claims = verified(form["assertion"][0], self.public_pem())
        except ValueError:
            return False
        if header["kid"] != "key-1" or claims["aud"] != f"{self.url}/token":
            return False
        self.claims.append(claims)
        return True


def verified(assertion: str, public_pem: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of an assertion that google-auth finds well signed.

    Its times are those of the test's clock, so they are not looked at.

    Raises:
        ValueError: It is not.
    """
    auth: Any = jwt
    header, claims, signed, signature = auth._unverified_decode(assertion)
    verifier: Any = crypt.RSAVerifier
    if not verifier.from_string(public_pem).verify(signed, signature):
        raise ValueError("The signature is wrong.")
    return dict(header), dict(claims)


def new_key() -> RSAPrivateKey:
    """Return a key; slow, so make one for a whole module."""
    return generate_private_key(public_exponent=65_537, key_size=2048)


@asynccontextmanager
async def open_gcp_accounts(key: RSAPrivateKey) -> AsyncIterator[GcpAccounts]:
    """Listen on 127.0.0.1; on exit every connection is cut."""
    accounts = GcpAccounts(key)
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with suppress(OSError, EOFError):
            while True:
                await _answer(accounts, reader, writer)
        writers.discard(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    accounts.port = server.sockets[0].getsockname()[1]
    try:
        yield accounts
    finally:
        server.close()
        for writer in tuple(writers):
            writer.transport.abort()
        await server.wait_closed()


async def _answer(
    accounts: GcpAccounts, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = head.partition("content-length:")[2].partition("\r\n")[0].strip()
    body = await reader.readexactly(int(length or 0))
    if accounts.mode == "hang":
        accounts.hung_count += 1
        await reader.read(1)
        return
    status, answer = 200, b""
    if accounts.mode == "refuse":
        status, answer = 400, b'{"error": "invalid_grant", "error_description": "secret"}'
    elif accounts.mode == "broken":
        status, answer = 503, b""
    elif accounts.mode == "junk":
        answer = b'{"access_token": 3}'
    elif head.startswith("post /token "):
        status = 200 if accounts.check(body) else 401
    elif head.startswith("get /computemetadata/v1/instance/service-accounts/default/token?scopes="):
        status = 200 if "\r\nmetadata-flavor: google\r\n" in head else 403
        accounts.metadata_count += 1
    else:
        status = 404
    if status == 200 and not answer:
        found = {
            "access_token": accounts.token,
            "expires_in": accounts.lifetime_s,
            "token_type": "Bearer",
        }
        answer = json.dumps(found).encode()
    writer.write(
        f"HTTP/1.1 {status} Odd\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(answer)}\r\n\r\n".encode()
        + answer
    )
    await writer.drain()
