"""What google-genai, which nobody here wrote, thinks of a Gemini request or answer."""

from typing import Any, Final

from google.genai import types

from tests.fakes.gemini_script import Json

_PARTS: Final[dict[str, Any]] = {
    "systemInstruction": types.Content,
    "toolConfig": types.ToolConfig,
    "generationConfig": types.GenerationConfig,
}
_LISTS: Final[dict[str, Any]] = {"contents": types.Content, "tools": types.Tool}


def read_request(body: Json) -> dict[str, Any]:
    """Return a request as google-genai's types, which take no member that they do not know."""
    assert body.keys() <= _PARTS.keys() | _LISTS.keys()
    found: dict[str, Any] = {
        name: _PARTS[name].model_validate(value) for name, value in body.items() if name in _PARTS
    }
    for name, kind in _LISTS.items():
        if name in body:
            found[name] = [kind.model_validate(value) for value in body[name]]
    return found


def read_answer(answer: Json) -> types.GenerateContentResponse:
    """Return an answer as google-genai's type."""
    return types.GenerateContentResponse.model_validate(answer)
