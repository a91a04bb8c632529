"""Every refusal has OpenAI's error object, and so has the event that breaks a stream."""

from typing import Any

import pytest

from tests.fixtures.gateway import Site
from tests.integration.gateway.wire import answer_of, events_of
from tests.recorded.forms import Recorded, check


def chat(prompt: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": prompt}], **fields}


CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "no JSON": (400, {"data": b"{"}),
    "wrong value": (400, {"json": chat(temperature=9)}),
    "unknown member": (400, {"json": chat(stream=True, stream_options={"x": 1})}),
    "too long": (400, {"json": chat("x" * 200_000)}),
    "unknown key": (401, {"json": chat(), "headers": {"Authorization": "Bearer sk-tp-none"}}),
    "no key": (401, {"json": chat(), "headers": {"Authorization": ""}}),
    "no credit": (402, {"json": chat(), "key": {"credit_nusd": 0}}),
    "another scope": (403, {"json": chat(), "key": {"scopes": ["models"]}}),
    "unknown model": (404, {"json": chat(model="none")}),
    "unknown path": (404, {"path": "/chat/none", "json": {}}),
    "stored response": (404, {"path": "/responses/resp_1", "method": "GET"}),
    "wrong method": (405, {"method": "PUT", "json": chat()}),
    "no JSON type": (415, {"data": b"{}", "headers": {"Content-Type": "text/plain"}}),
    "too often": (429, {"json": chat(), "key": {"requests_per_minute": 1}, "times": 2}),
    "refused upstream": (400, {"json": chat("fake=status:400;code:bad_thing")}),
    "policy upstream": (400, {"json": chat("fake=status:400;code:content_filter")}),
    "broken upstream": (502, {"json": chat("fake=status:500")}),
    "junk upstream": (502, {"json": chat("fake=body:junk", stream=True)}),
    "no route": (503, {"json": chat(allow_external=False, model="far")}),
    "too late": (504, {"json": chat("fake=hang:headers_before", timeout_ms=100)}),
    "response": (400, {"path": "/responses", "json": {"model": "chat", "input": 5}}),
    "completion": (400, {"path": "/completions", "json": {"model": "chat", "prompt": "x"}}),
    "embedding": (400, {"path": "/embeddings", "json": {"model": "chat", "input": "x"}}),
}


@pytest.mark.parametrize("case", CASES)
async def test_every_refusal_is_openais(case: str, scripted: Site) -> None:
    status, wish = CASES[case]
    key = await scripted.key(**wish.get("key", {}))
    headers = {**key.headers, "Content-Type": "application/json", **wish.get("headers", {})}
    sent = {name: wish[name] for name in ("data", "json") if name in wish}
    url = f"{scripted.url}/v1{wish.get('path', '/chat/completions')}"

    for _ in range(wish.get("times", 1)):
        call = scripted.http.request(wish.get("method", "POST"), url, headers=headers, **sent)
        answer = await answer_of(call)

    assert status == answer.status, answer.body
    check(Recorded("error", answer.json))
    assert isinstance(answer.error["code"], str)


@pytest.mark.parametrize("fault", ["cut_after:3", "body:error_late", "body:junk_late"])
@pytest.mark.parametrize("kind", ["chat", "text"])
async def test_event_that_breaks_a_stream_is_openais(fault: str, kind: str, scripted: Site) -> None:
    key, prompt = await scripted.key(), f"shape=c8-d20 fake={fault}"
    path, body = {
        "chat": ("/chat/completions", chat(prompt)),
        "text": ("/completions", {"model": "completion", "prompt": prompt}),
    }[kind]
    url = f"{scripted.url}/v1{path}"

    answer = await answer_of(
        scripted.http.post(url, json={**body, "stream": True}, headers=key.headers)
    )

    *chunks, last = events_of(answer.body)
    assert chunks
    for chunk in chunks:
        check(Recorded(f"{kind} chunk", chunk))
    check(Recorded("error", last))
