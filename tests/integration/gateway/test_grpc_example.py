"""`examples/grpc_client.py` as a process, against a whole site."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.fixtures.certificates import Authority
from tests.fixtures.gateway import OpenSite, Site, Wish
from tests.fixtures.grpc_caller import SERVED
from tests.house.tree import ROOT
from tests.integration.gateway.wire import tokens

CLIENT = ROOT / "examples" / "grpc_client.py"


async def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CLIENT),
        *arguments,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(40):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def address(site: Site) -> tuple[str, str]:
    return "--address", f"localhost:{site.gateway.grpc_port}"


@pytest.fixture
async def site(open_site: OpenSite) -> Site:
    return await open_site(Wish(gateway=SERVED))


async def test_client_prints_tokens_and_what_they_cost(site: Site, tmp_path: Path) -> None:
    key = await site.key()

    code, out, err = await run(
        tmp_path, "hello", "--model", "small", "--key", key.secret, *address(site)
    )

    (record,) = await site.settled(key, 1)
    assert (0, tokens(16)) == (code, out)
    assert f"\n[stop; 12 + 16 tokens; ${record.charge_nusd / 1e9:.9f}]\n" == err
    assert record.is_streaming


async def test_client_explains_a_refusal(site: Site, tmp_path: Path) -> None:
    key = await site.key()

    code, out, err = await run(
        tmp_path, "hello", "--model", "none", "--key", key.secret, *address(site)
    )

    assert (1, "") == (code, out)
    assert "NOT_FOUND MODEL_NOT_FOUND: The model does not exist for this key. (param=model" in err


async def test_client_gives_up_at_its_deadline(site: Site, tmp_path: Path) -> None:
    key = await site.key()
    options = ("--model", "small", "--deadline", "0.5", "--key", key.secret)

    code, _, err = await run(tmp_path, "fake=hang:headers_before", *options, *address(site))

    assert 1 == code
    assert "DEADLINE_EXCEEDED" in err


async def test_client_comes_with_a_certificate_instead_of_a_key(
    open_site: OpenSite, tmp_path: Path
) -> None:
    authority = Authority()
    cert, cert_key = authority.sign("gateway", dns=("localhost",)).write(tmp_path, "server")
    own, own_key = authority.sign("search").write(tmp_path, "own")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.pem)
    tls = {"grpc_tls_cert": cert, "grpc_tls_key": cert_key, "grpc_client_ca": ca}
    keys: dict[str, SecretStr] = {}
    site = await open_site(Wish(gateway={**SERVED, **tls}, grpc_keys=keys))
    keys["search"] = SecretStr((await site.key()).secret)
    options = ("--ca", str(ca), "--cert", str(own), "--cert-key", str(own_key))

    code, out, _ = await run(tmp_path, "hello", "--model", "small", *options, *address(site))

    assert (0, tokens(16)) == (code, out)
