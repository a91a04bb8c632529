"""What a model serves, as the catalogue file says it, and what cannot be served together."""

from pathlib import Path

import pytest

from kit.yaml_lines import YamlError
from services.router.catalog import Deployment
from services.router.catalog_build import build
from services.router.catalog_file import parse
from services.router.defaults import LocalTriton, default_catalogue
from turnpike.router.v1 import router_pb2

FILE = """\
catalogue:
  providers:
    one: {{kind: openai_compat, base_url: "http://127.0.0.1:9/v1"}}
    two: {{kind: triton}}
    three: {{kind: anthropic}}
  models:
    m:
      context_length: 8192
      {operations}
      deployments:
        - name: d
          provider: {provider}
          upstream_model: m
          price: {{input_usd_per_million: 1, output_usd_per_million: 1}}
          {more}
"""
CHAT, COMPLETION = router_pb2.OPERATION_UNSPECIFIED, router_pb2.OPERATION_COMPLETION
EMBEDDING = router_pb2.OPERATION_EMBEDDING


def built(operations: str, provider: str = "one", more: str = "") -> tuple[list[int], Deployment]:
    text = FILE.format(operations=operations, provider=provider, more=more)
    model = build(parse(text, variables={}), generation=1).find("m")
    assert model is not None
    return list(model.operations), model.deployments[0]


@pytest.mark.parametrize(
    ("operations", "served"),
    [
        ("", [CHAT]),
        ("operations: [chat]", [CHAT]),
        ("operations: [completion, chat, chat]", [CHAT, COMPLETION]),
        ("operations: [embedding]", [EMBEDDING]),
    ],
)
def test_model_serves_chat_unless_it_says_otherwise(operations: str, served: list[int]) -> None:
    assert served == built(operations)[0]


def test_embedding_model_on_triton_has_the_usual_tensors_or_its_own() -> None:
    named = "tensors: {input: a, output: b, token_count: c, is_shortenable: true}"

    _, usual = built("operations: [embedding]", "two")
    _, own = built("operations: [embedding]", "two", named)
    _, elsewhere = built("operations: [embedding]", "one")

    assert ("triton", "text", "embedding", "num_input_tokens", "") == tuple(usual.options.values())
    assert ("triton", "a", "b", "c", "yes") == tuple(own.options.values())
    assert {"engine": "openai"} == elsewhere.options


@pytest.mark.parametrize(
    ("operations", "provider", "more", "part"),
    [
        ("operations: []", "one", "", "operations"),
        ("operations: [dance]", "one", "", "operations"),
        ("operations: [chat, embedding]", "two", "", "either text or embeddings"),
        ("operations: [chat, completion]", "three", "", "anthropic serves chat alone"),
        ("operations: [embedding]", "one", "tensors: {}", "only an embedding model"),
        ("operations: [chat]", "two", "tensors: {}", "only an embedding model"),
        ("operations: [embedding]", "two", "tensors: {inputs: a}", "inputs"),
        ("operations: [embedding]", "two", 'tensors: {input: ""}', "input"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    operations: str, provider: str, more: str, part: str
) -> None:
    with pytest.raises(YamlError) as caught:
        built(operations, provider, more)

    assert part in caught.value.message


def test_local_triton_serves_text_and_vectors_by_default() -> None:
    triton = LocalTriton("127.0.0.1:8001", "127.0.0.1:8000", Path("tokenizer_config.json"))

    catalogue = build(default_catalogue({}, triton), generation=1)

    served = {model.model_id: model.operations for model in catalogue.models}
    assert {"tiny-chat": (CHAT, COMPLETION), "tiny-embed": (EMBEDDING,)} == served
