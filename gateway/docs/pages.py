"""Pages about the API for people and for machines that read text; pure."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from gateway.docs.document import PREFIX
from gateway.docs.operations import OPERATIONS, Operation

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "h2{margin-top:3rem;border-bottom:1px solid #ccc}h3{margin:2rem 0 0}p{margin:.3rem 0}"
    "code{background:#eee;padding:0 .2em}table{border-collapse:collapse;margin:.5rem 0}"
    "td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}"
    "nav li{list-style:none}:target{background:#ffc}"
)
Form = Mapping[str, Any]


def llms_text(operations: Sequence[Operation] = OPERATIONS) -> str:
    """Return `/llms.txt`: what there is, in Markdown. Source: llmstxt.org, read 2026-11."""
    lines = [
        "# Turnpike",
        "",
        "> One endpoint in front of many models, as OpenAI and Anthropic spell it: chat, streams, "
        "tools, vectors, images, sound, prices.",
        "",
        "Send `Authorization: Bearer <key>` or `x-api-key: <key>`. Errors are "
        '`{"error": {"message", "type", "code", "param", "request_id"}}`, those of the Messages '
        'API `{"type": "error", "error": {"type", "message", "details"}, "request_id"}`. A stream '
        "of chunks ends with `data: [DONE]`, a broken one with an error event.",
    ]
    for group, each in groupby(operations, key=lambda one: one.group):
        lines += ["", f"## {group}", "", *map(_line, each)]
    lines += [
        "",
        "## Documents",
        "",
        "- [OpenAPI](/openapi.json): every endpoint with its fields",
        "- [Reference](/docs): the same to read",
        "",
    ]
    return "\n".join(lines)


def _line(each: Operation) -> str:
    return f"- [{each.method} {PREFIX}{each.path}](/docs#{each.name}): {each.summary}"


def reference_page(document: Form) -> str:
    """Return `/docs`: the OpenAPI document as one page that loads nothing."""
    groups: dict[str, list[tuple[str, Form]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups[operation["tags"][0]].append((f"{method.upper()} {path}", operation))
    schemas = document["components"]["schemas"]
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><title>Turnpike API</title>",
        f"<style>{_STYLE}</style><h1>Turnpike API</h1><p>{escape(info['description'])}</p>",
        "<p>Send <code>Authorization: Bearer &lt;key&gt;</code> or "
        "<code>x-api-key: &lt;key&gt;</code>. See also the <a href=/openapi.json>OpenAPI document"
        "</a> and <a href=/llms.txt>llms.txt</a>.</p>",
        *_contents(groups),
    ]
    for group, operations in groups.items():
        parts.append(f"<h2>{escape(group)}</h2>")
        parts += [_operation(name, operation, schemas) for name, operation in operations]
    parts.append("<h2 id='Objects'>Objects</h2>")
    bodies = set(_bodies(document))
    parts += [_object(name, form) for name, form in sorted(schemas.items()) if name not in bodies]
    return "".join(parts) + "</html>"


def _contents(groups: Mapping[str, Sequence[tuple[str, Form]]]) -> Iterator[str]:
    yield "<nav><ul>"
    for operations in groups.values():
        for name, operation in operations:
            link = f"<a href='#{operation['operationId']}'><code>{escape(name)}</code></a>"
            yield f"<li>{link} {escape(operation['summary'])}"
    yield "<li><a href='#Objects'>Objects</a></ul></nav>"


def _bodies(document: Form) -> Iterator[str]:
    """Yield the names of what is shown where its operation is."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield _name(content["schema"])


def _operation(name: str, operation: Form, schemas: Form) -> str:
    parts = [
        f"<h3 id='{operation['operationId']}'><code>{escape(name)}</code></h3>",
        f"<p>{escape(operation['summary'])}</p>",
    ]
    if parameters := operation.get("parameters"):
        rows = [_row(each["name"], each["in"], each.get("description", "")) for each in parameters]
        parts.append(f"<table><tr><th>parameter<th>in<th>{''.join(rows)}</table>")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Takes <code>{kind}</code>:</p>")
        parts.append(_fields(schemas[_name(content["schema"])]))
    for status, response in operation["responses"].items():
        kinds = [
            f"<code>{kind}</code> {_kind(content['schema'])}"
            for kind, content in response["content"].items()
        ]
        said = "Answers" if status == "200" else "Refuses with"
        parts.append(f"<p>{said} {', '.join(kinds)}.</p>")
    return "".join(parts)


def _object(name: str, form: Form) -> str:
    about = escape(form.get("description", ""))
    return f"<h3 id='{name}'>{name}</h3><p>{about}</p>{_fields(form)}"


def _fields(form: Form) -> str:
    required = set(form.get("required", ()))
    rows = [
        _row(name, _kind(inner), "required" if name in required else "")
        for name, inner in form.get("properties", {}).items()
    ]
    return f"<table><tr><th>field<th>type<th>{''.join(rows)}</table>"


def _row(name: str, kind: str, more: str) -> str:
    return f"<tr><td><code>{escape(name)}</code><td>{kind}<td>{escape(more)}"


def _name(form: Form) -> str:
    return str(form["$ref"].rsplit("/", 1)[1])


def _kind(form: Form) -> str:
    """Return a field's type in a few words of HTML."""
    if "anyOf" in form:
        kinds = [_kind(each) for each in form["anyOf"]]
        return " or ".join(kind for kind in dict.fromkeys(kinds) if kind != "null")
    if "enum" in form:
        return " or ".join(escape(repr(each).replace("'", '"')) for each in form["enum"])
    if "$ref" in form:
        name = _name(form)
        return f"<a href='#{name}'>{name}</a>"
    if form.get("type") == "array":
        return f"list of {_kind(form['items'])}" if form.get("items") else "list"
    kind = str(form.get("format") or form.get("type", "any"))
    return f"{kind} {bounds}" if (bounds := _bounds(form)) else kind


def _bounds(form: Form) -> str:
    parts = []
    least, most = form.get("minimum"), form.get("maximum")
    if least is not None and most is not None:
        parts.append(f"{least} to {most}")
    elif least is not None:
        parts.append(f"from {least}")
    if "maxLength" in form:
        parts.append(f"up to {form['maxLength']} characters")
    return ", ".join(parts)
