"""Asks for an operation other than chat and checks what comes, and what it costs."""

import json
from typing import Any, Final

import aiohttp

from tests.fixtures.gateway import Key
from tests.fixtures.media import CHARACTER_PUSD, IMAGE_NUSD, SECOND_NUSD, wav
from tests.integration.gateway.wire import Answer, answer_of
from tests.matrix.asking import check_money, refused_param
from tests.matrix.providers import CATALOGUE
from tests.matrix.reply import PROMPT, Told
from tests.matrix.sites import PRICES, Place, operation_model
from tests.recorded.forms import Recorded, check

SOUND_S: Final = 9.0
SPOKEN: Final = "Salt."
_BODIES: Final[dict[str, dict[str, Any]]] = {
    "completion": {"prompt": PROMPT},
    "embedding": {"input": [PROMPT, PROMPT]},
    "image": {"prompt": "a fish"},
    "speech": {"input": SPOKEN, "voice": "alloy"},
}
_PATHS: Final = {
    "completion": "/completions",
    "embedding": "/embeddings",
    "image": "/images/generations",
    "speech": "/audio/speech",
    "transcription": "/audio/transcriptions",
}
_FORMS: Final = {"completion": "text", "embedding": "embeddings"}


async def operated(place: Place, operation: str) -> str:
    """Ask, check, and return `ok`, or what was refused."""
    model = operation_model(operation)
    if model in place.unwritable:
        return f"refused({CATALOGUE})"
    upstream, key = place.opened.upstream, await place.site.key()
    fields = upstream.tell_operation(operation)
    before = upstream.asked_count()
    answer = await _answer(place, key, operation, {"model": model, **fields})
    if param := refused_param(answer):
        assert before == upstream.asked_count()
        assert 0 == (await place.site.balance(key)).charged_nusd
        return f"refused({param})"
    assert 200 == answer.status, answer.body
    if operation in PRICES:
        await _check_units(place, key, operation, answer)
        return "ok"
    value = answer.json
    check(Recorded(_FORMS[operation], value))
    if operation == "embedding":
        assert [0, 1] == [one["index"] for one in value["data"]]
    else:
        assert value["choices"][0]["text"]
    usage = value["usage"]
    is_counted = await check_money(
        place, key, Told(usage["prompt_tokens"], usage.get("completion_tokens", 0))
    )
    return "ok" if is_counted else "estimated"


async def _answer(place: Place, key: Key, operation: str, fields: dict[str, Any]) -> Answer:
    url = f"{place.site.url}/v1{_PATHS[operation]}"
    if operation != "transcription":
        body = {**_BODIES[operation], **fields}
        return await answer_of(place.site.http.post(url, json=body, headers=key.headers))
    form = aiohttp.FormData()
    form.add_field("model", fields["model"])
    form.add_field("file", wav(SOUND_S), filename="a.wav", content_type="audio/wav")
    return await answer_of(place.site.http.post(url, data=form, headers=key.headers))


async def _check_units(place: Place, key: Key, operation: str, answer: Answer) -> None:
    (record,) = await place.site.settled(key, 1)
    count, charge_nusd = {
        "image": (1, IMAGE_NUSD),
        "speech": (len(SPOKEN), -(-len(SPOKEN) * CHARACTER_PUSD // 1000)),
        "transcription": (
            place.opened.upstream.seconds,
            place.opened.upstream.seconds * SECOND_NUSD,
        ),
    }[operation]
    assert answer.body
    if operation == "image":
        assert 1 == len(json.loads(answer.body)["data"])
    if operation == "transcription":
        assert json.loads(answer.body)["text"]
    assert (count, charge_nusd) == (record.usage.unit_count, record.charge_nusd)
