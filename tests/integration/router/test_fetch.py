"""Fetching images from a real TLS host, reached through a resolver of the test. R-B4."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from services.router.providers.fetch import FetchRules, ImageFetcher, ImageUrl
from services.router.providers.port import Failure, ProviderError
from tests.fakes.image_host import IMAGE, ImageHost, open_image_host
from tests.fixtures.tls import certificate, server_context

NAME = "img.example.com"
WHERE = "messages[0].content[0].image_url.url"
LOOPBACK = (ip_network("127.0.0.0/8"),)


class Resolver:
    """Answers each lookup with the next addresses, and the last ones for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.count = 0

    def __call__(self, _host: str, _port: int) -> Sequence[str]:
        self.count += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return certificate(tmp_path, name=NAME)


@pytest.fixture
async def host(files: tuple[Path, Path]) -> AsyncIterator[ImageHost]:
    async with open_image_host(server_context(files)) as opened:
        yield opened


class Fetching:
    """A fetcher that may ask the test's host."""

    def __init__(self, ca_file: Path, port: int, resolver: Resolver, **rules: Any) -> None:
        allowed = {"networks": LOOPBACK, "total_s": 30.0, **rules}
        self.fetcher = ImageFetcher(
            FetchRules(ports=frozenset({port}), ca_file=str(ca_file), **allowed), resolve=resolver
        )

    async def fetch(self, *urls: str) -> list[bytes]:
        deadline_s = asyncio.get_running_loop().time() + 30
        images = [ImageUrl(WHERE, url) for url in urls]
        try:
            return await self.fetcher.fetch(images, deadline_s=deadline_s)
        finally:
            self.fetcher.close()

    async def refusal(self, *urls: str) -> str:
        with pytest.raises(ProviderError) as caught:
            await self.fetch(*urls)
        assert Failure.REJECTED is caught.value.failure
        assert NAME not in caught.value.message
        return caught.value.message


@pytest.mark.parametrize("path", ["/a.png", "/until-close.png", "/parameters.png"])
async def test_image_is_fetched_from_the_checked_address_under_its_name(
    host: ImageHost, files: tuple[Path, Path], path: str
) -> None:
    resolver = Resolver(["127.0.0.1"])

    found = await Fetching(files[0], host.port, resolver).fetch(host.url(path))

    assert [IMAGE] == found
    assert [NAME] == host.names
    head = host.heads[0].decode().lower()
    assert head.startswith(f"get {path} http/1.1\r\nhost: {NAME}:{host.port}\r\n")
    assert not any(word in head for word in ("cookie", "authorization", "forwarded", "traceparent"))
    assert 1 == resolver.count


async def test_several_images_come_in_their_order(
    host: ImageHost, files: tuple[Path, Path]
) -> None:
    fetching = Fetching(files[0], host.port, Resolver(["127.0.0.1"]), concurrent_max=2)

    found = await fetching.fetch(*[host.url(p) for p in ("/a.png", "/until-close.png")] * 3)

    assert [IMAGE] * 6 == found


async def test_name_is_looked_up_once_so_that_it_cannot_be_rebound(
    host: ImageHost, files: tuple[Path, Path]
) -> None:
    # A second lookup would find the address of somebody else.
    resolver = Resolver(["127.0.0.1"], ["10.0.0.1"])

    found = await Fetching(files[0], host.port, resolver).fetch(host.url("/a.png"))

    assert ([IMAGE], 1) == (found, resolver.count)


async def test_rebinding_name_is_refused_when_it_shows_its_other_address_first(
    host: ImageHost, files: tuple[Path, Path]
) -> None:
    resolver = Resolver(["10.0.0.1"], ["127.0.0.1"])

    message = await Fetching(files[0], host.port, resolver).refusal(host.url("/a.png"))

    assert f"{WHERE} must point at a public host." == message
    assert ([], 1) == (host.names, resolver.count)


async def test_loopback_is_private_unless_the_owner_allows_it(
    host: ImageHost, files: tuple[Path, Path]
) -> None:
    fetching = Fetching(files[0], host.port, Resolver(["127.0.0.1"]), networks=())

    assert f"{WHERE} must point at a public host." == await fetching.refusal(host.url("/a.png"))
    assert [] == host.names


async def test_next_address_is_tried_when_one_cannot_be_reached(
    host: ImageHost, files: tuple[Path, Path]
) -> None:
    fetching = Fetching(files[0], host.port, Resolver(["127.0.0.2", "127.0.0.1"]))

    assert [IMAGE] == await fetching.fetch(host.url("/a.png"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/redirect", "answers with a redirect, which is not followed."),
        ("/moved", "answers with a redirect, which is not followed."),
        ("/gone", "answers with status 404."),
        ("/page", "is none of image/png, image/jpeg, image/webp, image/gif."),
        ("/untold", "is none of image/png, image/jpeg, image/webp, image/gif."),
        ("/liar", "is not a PNG, JPEG, WebP or GIF image."),
        ("/packed", "answers compressed, which was not asked for."),
        ("/said", "is longer than 10485760 bytes."),
        ("/long", "is longer than 10485760 bytes."),
        ("/junk", "could not be fetched: the answer is not as asked for."),
    ],
)
async def test_answer_that_is_no_image_is_refused(
    host: ImageHost, files: tuple[Path, Path], path: str, expected: str
) -> None:
    message = await Fetching(files[0], host.port, Resolver(["127.0.0.1"])).refusal(host.url(path))

    assert f"{WHERE} {expected}" == message
    assert 1 == len(host.heads)


@pytest.mark.parametrize("path", ["/silent", "/slow"])
async def test_slow_host_is_given_up(host: ImageHost, files: tuple[Path, Path], path: str) -> None:
    fetching = Fetching(files[0], host.port, Resolver(["127.0.0.1"]), total_s=0.3)

    assert f"{WHERE} could not be fetched in time." == await fetching.refusal(host.url(path))


async def test_images_of_a_request_share_a_bound(host: ImageHost, files: tuple[Path, Path]) -> None:
    most = 2 * len(IMAGE)
    fetching = Fetching(files[0], host.port, Resolver(["127.0.0.1"]), request_bytes_max=most)

    message = await fetching.refusal(*[host.url("/a.png")] * 3)

    assert f"messages name images of more than {most} bytes." == message


@pytest.mark.parametrize("fault", ["unknown", "name"])
async def test_certificate_has_to_be_trusted_and_for_the_name(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    files = certificate(folder, name="other.example.com" if fault == "name" else NAME)
    trusted = files[0] if fault == "name" else certificate(tmp_path, name=NAME)[0]

    async with open_image_host(server_context(files)) as host:
        message = await Fetching(trusted, host.port, Resolver(["127.0.0.1"])).refusal(
            host.url("/a.png")
        )

    assert f"{WHERE} names a host that cannot be reached by https." == message
    assert [] == host.heads
