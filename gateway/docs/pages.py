"""Pages about the API for people and for machines that read text; pure."""

from collections.abc import Sequence
from html import escape
from typing import Any

from gateway.docs.document import PREFIX
from gateway.docs.operations import OPERATIONS, Operation

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#eee;padding:0 .2em}table{border-collapse:collapse}"
    "td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}"
)


def llms_text(operations: Sequence[Operation] = OPERATIONS) -> str:
    """Return `/llms.txt`: what there is, in Markdown. Source: llmstxt.org, read 2026-11."""
    lines = [
        "# Turnpike",
        "",
        "> One OpenAI-compatible endpoint in front of many models: chat, streams, tools, prices.",
        "",
        'Send `Authorization: Bearer <key>`. Errors are `{"error": {"message", "type", '
        '"code", "param", "request_id"}}`. A stream ends with `data: [DONE]`, '
        "a broken one with an error event.",
        "",
        "## Endpoints",
        "",
        *(f"- `{each.method} {PREFIX}{each.path}`: {each.summary}" for each in operations),
        "",
        "## Documents",
        "",
        "- [OpenAPI](/openapi.json): every endpoint with its fields",
        "- [Reference](/docs): the same to read",
        "",
    ]
    return "\n".join(lines)


def reference_page(document: dict[str, Any]) -> str:
    """Return `/docs`: the OpenAPI document as one page that loads nothing."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Turnpike API</title>",
        f"<style>{_STYLE}</style><h1>Turnpike API</h1>",
        f"<p>{escape(document['info']['description'])} <a href=/openapi.json>OpenAPI</a></p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation['summary'])}</p>")
            requests = operation.get("requestBody", {}).get("content", {})
            parts += [_fields(document, content["schema"]) for content in requests.values()]
    return "".join(parts) + "</html>"


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> str:
    name = schema["$ref"].rsplit("/", 1)[1]
    found = document["components"]["schemas"][name]
    required = set(found.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code><td>{escape(_kind(form))}"
        f"<td>{'required' if field in required else ''}"
        for field, form in found.get("properties", {}).items()
    )
    return f"<table><tr><th>field<th>type<th>{rows}</table>"


def _kind(form: dict[str, Any]) -> str:
    """Return a field's type in a few words."""
    if "anyOf" in form:
        kinds = [_kind(each) for each in form["anyOf"]]
        return " or ".join(kind for kind in dict.fromkeys(kinds) if kind != "null")
    if "enum" in form:
        return " or ".join(str(each) for each in form["enum"])
    if "$ref" in form:
        return str(form["$ref"].rsplit("/", 1)[1])
    kind = str(form.get("type", "any"))
    bounds = [f"{form[key]}" for key in ("minimum", "maximum") if key in form]
    return f"{kind} {' to '.join(bounds)}" if bounds else kind
