"""Hosts of Claude: what Anthropic's own clients for them send is what is sent here."""

import json
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic, AnthropicBedrock, AnthropicVertex

from services.router.providers.anthropic.codec import AnthropicCodec
from services.router.providers.anthropic.hosts import ANTHROPIC, Host
from services.router.providers.fetch import ImageUrl
from tests.fakes.anthropic_script import Script, message_of
from tests.fixtures.anthropic_calls import attempt, encoded

PLACE = "/projects/p-1/locations/europe-west1/publishers/anthropic/models/{model}"
VERTEX = Host(
    path=f"{PLACE}:rawPredict",
    stream_path=f"{PLACE}:streamRawPredict",
    model_prefix="anthropic/",
    body_version="vertex-2023-10-16",
)
BEDROCK = Host(
    path="/model/{model}/invoke",
    stream_path="/model/{model}/invoke-with-response-stream",
    body_version="bedrock-2023-05-31",
    body_betas=("context-1m-2025-08-07",),
    has_stream_flag=False,
    fetches_images=True,
)


class Clients:
    """Anthropic's clients, over a transport that keeps what it is given."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self._http = httpx2.Client(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(200, json=message_of(Script()))

    def anthropic(self) -> Any:
        return Anthropic(api_key="k", http_client=self._http)

    def vertex(self) -> Any:
        return AnthropicVertex(
            project_id="p-1", region="europe-west1", access_token="t", http_client=self._http
        )

    def bedrock(self) -> Any:
        return AnthropicBedrock(
            aws_region="eu-west-1",
            api_key="k",
            http_client=self._http,
        )


def unversioned(body: bytes) -> tuple[Any, bool]:
    request = json.loads(body)
    return request, bool(request.pop("anthropic_version", ""))


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize(
    ("name", "host", "model", "theirs"),
    [
        ("anthropic", ANTHROPIC, "claude-opus-5", "claude-opus-5"),
        ("vertex", VERTEX, "anthropic/claude-opus-4-5@20251101", "claude-opus-4-5@20251101"),
        ("bedrock", BEDROCK, "anthropic.claude-x-v1:0", "anthropic.claude-x-v1:0"),
    ],
)
def test_a_host_gets_what_its_own_client_sends(
    name: str, host: Host, model: str, theirs: str, is_streaming: bool
) -> None:
    clients = Clients()
    call, body = attempt(is_streaming=is_streaming, max_tokens=9)

    ours = AnthropicCodec(host).encode(call._replace(upstream_model=model), body, {})
    getattr(clients, name)().messages.create(
        model=theirs,
        max_tokens=9,
        stream=is_streaming,
        extra_headers={"anthropic-beta": ",".join(host.body_betas)} if host.body_betas else None,
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    )

    (request,) = clients.requests
    # The version is each side's own; where it stands is the host's.
    assert ("anthropic-version" in request.headers) is (host is ANTHROPIC)
    assert unversioned(ours.body) == unversioned(request.content)
    assert request.url.path.endswith(httpx2.URL(f"https://host{ours.path}").path)


def test_images_are_fetched_for_a_host_that_takes_no_urls() -> None:
    where = "messages[0].content[0].image_url.url"
    url = "https://example.com/a.gif"
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    _, body = attempt(message)

    assert AnthropicCodec().remote_images(body) == []
    assert AnthropicCodec(BEDROCK).remote_images(body) == [ImageUrl(where, url)]
    sent = encoded(message, host=BEDROCK, fetched={where: ("image/gif", b"GIF89a")})
    source = json.loads(sent.body)["messages"][0]["content"][0]["source"]
    assert source == {"type": "base64", "media_type": "image/gif", "data": "R0lGODlh"}
