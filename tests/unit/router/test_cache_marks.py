"""Prompt-cache markers are taken out where they are markers, and nowhere else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.cache_marks import may_have_marks, without_marks
from services.router.providers.port import Body

MARK = {"type": "ephemeral", "ttl": "1h"}
MARKED = {"cache_control": MARK}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
PROPERTY = {"type": "object", "properties": MARKED}


def body(**fields: Any) -> Body:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def tool(**more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": PROPERTY}, **more}


def read(found: Body) -> dict[str, Any]:
    return {name: json.loads(bytes(raw)) for name, raw in found.items()}


@pytest.mark.parametrize(
    ("marked", "unmarked"),
    [
        (
            {"messages": [{"role": "user", "content": "Hi", **MARKED}]},
            {"messages": [{"role": "user", "content": "Hi"}]},
        ),
        (
            {"messages": [{"role": "system", "content": [text("a", **MARKED), text("b")]}]},
            {"messages": [{"role": "system", "content": [text("a"), text("b")]}]},
        ),
        (
            {"messages": [{"role": "user", "content": [{**IMAGE, **MARKED}], **MARKED}]},
            {"messages": [{"role": "user", "content": [IMAGE]}]},
        ),
        ({"tools": [tool(**MARKED), tool()]}, {"tools": [tool(), tool()]}),
        (
            {"tools": [{"type": "function", "function": {"name": "f", **MARKED}}]},
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
        ),
        ({"cache_control": MARK, "n": 1}, {"n": 1}),
        (
            {"messages": [{"role": "user", "content": "Hi", "cache_control": None}]},
            {"messages": [{"role": "user", "content": "Hi"}]},
        ),
    ],
)
def test_marker_is_taken_out(marked: dict[str, Any], unmarked: dict[str, Any]) -> None:
    found, is_marked = without_marks(body(**marked))

    assert is_marked
    assert unmarked == read(found)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": [{"role": "user", "content": 'Say "cache_control".'}]},
        {"messages": [{"role": "user", "content": "cache_control"}]},
        {"messages": [{"role": "tool", "content": json.dumps(MARKED)}]},
        {"tools": [tool()]},
        {"metadata": MARKED},
        {"messages": "cache_control", "tools": {"cache_control": 1}},
        {"messages": [["cache_control"], "cache_control"]},
    ],
)
def test_body_without_markers_stays_as_it_is(fields: dict[str, Any]) -> None:
    before = body(**fields)

    found, is_marked = without_marks(before)

    assert (before, False) == (found, is_marked)
    assert found is before


def test_body_is_not_changed_in_place() -> None:
    before = body(messages=[{"role": "user", "content": [text("a", **MARKED)]}])
    copy = dict(before)

    without_marks(before)

    assert copy == before


def test_what_has_no_marker_keeps_every_byte() -> None:
    odd = b'{"role": "user",  "content":"x", "n":1.50}'
    marked = b'{"role":"user","content":"y","cache_control":{}}'
    before = {"messages": msgspec.Raw(b"[" + odd + b"," + marked + b"]")}

    found, _ = without_marks(before)

    assert b"[" + odd + b',{"role":"user","content":"y"}]' == bytes(found["messages"])


@pytest.mark.parametrize("junk", [b"[", b"[" * 5000, b'[{"cache_control"', b"7"])
def test_junk_is_left_for_others_to_refuse(junk: bytes) -> None:
    before = {"messages": msgspec.Raw(junk + b'"cache_control"')}

    assert (before, False) == without_marks(before)


marks = st.sampled_from([{}, MARKED])
blocks = st.builds(lambda mark: text("t", **mark), marks)
contents = st.just("t") | st.lists(blocks, max_size=3)
messages = st.builds(
    lambda content, mark: {"role": "user", "content": content, **mark}, contents, marks
)


@given(st.lists(messages, max_size=3), st.lists(marks, max_size=2))
def test_no_marker_is_left_and_all_else_is(talk: list[Any], tools: list[Any]) -> None:
    before = body(messages=talk, tools=[tool(**mark) for mark in tools])

    found, is_marked = without_marks(before)

    def unmarked(value: Any) -> Any:
        if isinstance(value, list):
            return [unmarked(one) for one in value]
        if isinstance(value, dict):
            return {
                name: one if name == "parameters" else unmarked(one)
                for name, one in value.items()
                if name != "cache_control"
            }
        return value

    assert unmarked(read(before)) == read(found)
    assert is_marked == (read(before) != read(found))
    assert is_marked <= may_have_marks(b"".join(map(bytes, before.values())))
