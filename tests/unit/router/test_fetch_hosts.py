"""Which hosts are never asked for an image, whatever their names resolve to. R-B4."""

import asyncio
from collections.abc import Sequence

import pytest

from services.router.providers.fetch import FetchRules, ImageFetcher, ImageUrl
from services.router.providers.port import Failure, ProviderError

WHERE = "messages[0].content[1].image_url.url"


class Names:
    """A resolver that knows what it is told, and what it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        if not self.addresses:
            raise OSError("not found")
        return self.addresses


async def refusal(fetcher: ImageFetcher, url: str) -> ProviderError:
    deadline_s = asyncio.get_running_loop().time() + 30
    try:
        with pytest.raises(ProviderError) as caught:
            await fetcher.fetch([ImageUrl(WHERE, url)], deadline_s=deadline_s)
    finally:
        fetcher.close()
    assert Failure.REJECTED is caught.value.failure
    assert (400, WHERE) == (caught.value.status, caught.value.param)
    return caught.value


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.7"],
        ["172.20.1.1"],
        ["192.168.0.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["168.63.129.16"],
        ["0.0.0.0"],
        ["224.0.0.1"],
        ["255.255.255.255"],
        ["198.51.100.1"],
        ["::1"],
        ["::"],
        ["fe80::1"],
        ["fe80::1%lo"],
        ["fd00:ec2::254"],
        ["ff02::1"],
        ["::ffff:127.0.0.1"],
        ["::ffff:8.8.8.8"],
        ["::8.8.8.8"],
        ["64:ff9b::a00:1"],
        ["2002:a00:1::1"],
        ["2001:0:a00:1::1"],
        ["2001:db8::1"],
        ["8.8.8.8", "127.0.0.1"],
        ["2606:4700::1111", "::1"],
    ],
    ids=" ".join,
)
async def test_name_with_an_address_that_is_not_public_is_not_asked(addresses: list[str]) -> None:
    names = Names(*addresses)

    error = await refusal(ImageFetcher(FetchRules(), resolve=names), "https://img.example.com/a")

    assert f"{WHERE} must point at a public host." == error.message
    assert ["img.example.com"] == names.asked


@pytest.mark.parametrize(
    "url",
    [
        "http://img.example.com/a.png",
        "ftp://img.example.com/a.png",
        "file:///etc/passwd",
        "https://localhost/a.png",
        "https://127.0.0.1/a.png",
        "https://2130706433/a.png",
        "https://0x7f.1/a.png",
        "https://0177.0.0.1/a.png",
        "https://[::1]/a.png",
        "https://[::ffff:10.0.0.1]/a.png",
        "https://img.example.com./a.png",
        "https://user@img.example.com/a.png",
        "https://img.example.com\\@10.0.0.1/a.png",
        "https://\uff11\uff12\uff17.0.0.1/a.png",
        "https://redis/a.png",
        "https://img.example.com:22/a.png",
        "https://img.example.com:8443/a.png",
    ],
)
async def test_url_that_is_not_public_https_is_not_even_looked_up(url: str) -> None:
    names = Names("8.8.8.8")

    error = await refusal(ImageFetcher(FetchRules(), resolve=names), url)

    assert [] == names.asked
    assert "example.com" not in error.message


async def test_name_that_does_not_exist_is_refused() -> None:
    error = await refusal(ImageFetcher(FetchRules(), resolve=Names()), "https://img.example.com/a")

    assert f"{WHERE} names a host that was not found." == error.message
