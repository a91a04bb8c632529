"""The catalogue file: its form, its errors with lines, its snapshot."""

from pathlib import Path

import pytest

from kit.yaml_lines import YamlError
from services.router.catalog_build import build
from services.router.catalog_file import parse
from turnpike.router.v1 import router_pb2

GOOD = """\
catalogue:
  providers:
    one:
      kind: openai_compat
      base_url: http://127.0.0.1:9/v1
      api_key: ${SECRET_KEY}
    two:
      kind: triton
      grpc_address: 127.0.0.1:8001
  models:
    vendor/model-a:
      aliases: [model-a]
      context_length: 8192
      deployments:
        - name: dear
          provider: one
          upstream_model: a
          price: {input_usd_per_million: 0.50, output_usd_per_million: 2}
        - name: cheap
          provider: two
          upstream_model: a
          price: {input_usd_per_million: "0.10", output_usd_per_million: 0.4}
"""
VARIABLES = {"SECRET_KEY": "sk-canary-1234567890"}


def test_snapshot_finds_models_by_id_and_alias_and_tries_the_cheaper_first() -> None:
    catalogue = build(parse(GOOD, variables=VARIABLES), generation=7)

    model = catalogue.find("model-a")

    assert model is not None
    assert model is catalogue.find("vendor/model-a")
    assert ["cheap", "dear"] == [d.name for d in model.deployments]
    assert (500_000, 2_000_000) == (
        model.ceiling.input_pusd_per_token,
        model.ceiling.output_pusd_per_token,
    )
    assert 7 == catalogue.generation
    assert catalogue.find("nobody") is None


def test_own_keys_cost_nothing_unless_the_file_says_so() -> None:
    price = "price: {input_usd_per_million: 0.50, output_usd_per_million: 2}"
    own = "byok_price: {input_usd_per_million: 0.01, output_usd_per_million: 0.02}"
    text = GOOD.replace(price, f"{price}\n          {own}")

    catalogue = build(parse(text, variables=VARIABLES), generation=1)

    free, priced = (deployment.byok_price for deployment in catalogue.models[0].deployments)
    assert (0, 0, 0) == (free.input_pusd_per_token, free.output_pusd_per_token, free.request_pusd)
    assert (10_000, 20_000) == (priced.input_pusd_per_token, priced.output_pusd_per_token)
    assert {"one": "openai_compat", "two": "triton"} == catalogue.kinds


@pytest.mark.parametrize(
    "own",
    [
        "{input_usd_per_million: 0.51, output_usd_per_million: 1}",
        "{input_usd_per_million: 0, output_usd_per_million: 2.01}",
        "{input_usd_per_million: 0, output_usd_per_million: 0, request_usd: 0.001}",
        "{unit: image, unit_usd: 0}",
    ],
)
def test_own_key_that_would_cost_more_than_what_is_held_is_refused(own: str) -> None:
    price = "price: {input_usd_per_million: 0.50, output_usd_per_million: 2}"
    text = GOOD.replace(price, f"{price}\n          byok_price: {own}")

    with pytest.raises(YamlError, match="byok_price"):
        parse(text, variables=VARIABLES)


def test_price_id_changes_with_every_figure() -> None:
    first = build(parse(GOOD, variables=VARIABLES), generation=1)
    second = build(parse(GOOD.replace("0.50", "0.51"), variables=VARIABLES), generation=1)

    def ids(catalogue: object) -> set[str]:
        return {d.price.price_id for m in catalogue.models for d in m.deployments}  # type: ignore[attr-defined]

    assert 1 == len(ids(first) & ids(second))


def test_key_is_hidden_in_every_text_form() -> None:
    file = parse(GOOD, variables=VARIABLES)

    assert "canary" not in repr(file) + str(file) + file.model_dump_json()


def test_key_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("sk-from-file\n")

    file = parse(GOOD.replace("${SECRET_KEY}", f"file:{secret}"), variables={})

    assert "sk-from-file" == file.providers["one"].api_key.get_secret_value()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "line", "part"),
    [
        (("context_length: 8192", "context_length: many"), 13, "context_length"),
        (("context_length: 8192", "contxt_length: 8192"), 13, "contxt_length"),
        (("provider: two", "provider: three"), 1, "three"),
        (("name: cheap", "name: dear"), 1, "dear"),
        (("kind: triton", "kind: magic"), 7, "magic"),
        (("0.50", "-1"), 18, "input_usd_per_million"),
        (("0.50", "0.0000001"), 18, "finer"),
    ],
)
def test_mistakes_are_named_with_their_line(change: tuple[str, str], line: int, part: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse(GOOD.replace(*change), variables=VARIABLES)

    assert part in caught.value.message
    assert line == caught.value.line


def test_missing_variable_is_named() -> None:
    with pytest.raises(YamlError, match="SECRET_KEY"):
        parse(GOOD, variables={})


@pytest.mark.parametrize("text", ["a: [", "- a\n- b", "\t"])
def test_text_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(YamlError):
        parse(text, variables={})


MEDIA = """\
catalogue:
  providers:
    one: {kind: openai_compat, base_url: "http://127.0.0.1:9/v1"}
    two: {kind: triton}
  models:
    m:
      context_length: 100
      operations: [image]
      deployments:
        - name: a
          provider: one
          upstream_model: a
          price: {unit: image, unit_usd: 0.04}
        - name: b
          provider: one
          upstream_model: b
          price: {unit: image, unit_usd: "0.000000000001"}
"""


def test_price_by_the_unit_is_exact_and_says_what_it_counts() -> None:
    model = build(parse(MEDIA, variables={}), generation=1).find("m")

    assert model is not None
    assert (router_pb2.OPERATION_IMAGE,) == model.operations
    assert ("image", 40_000_000_000) == (model.ceiling.unit, model.ceiling.unit_pusd)
    assert ("image", 1) == (model.floor.unit, model.floor.unit_pusd)
    assert 2 == len({deployment.price.price_id for deployment in model.deployments})
    assert ["b", "a"] == [deployment.name for deployment in model.deployments]


def test_model_serves_chat_unless_it_says_otherwise() -> None:
    model = build(parse(GOOD, variables=VARIABLES), generation=1).find("model-a")

    assert model is not None
    assert (router_pb2.OPERATION_UNSPECIFIED,) == model.operations


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("unit: image, unit_usd: 0.04", "unit: second, unit_usd: 0.04", "different units"),
        ("operations: [image]", "operations: [chat]", "needs image among its operations"),
        ("operations: [image]", "operations: []", "at least 1 item"),
        ("operations: [image]", "operations: [video]", "Input should be"),
        ("unit: image, unit_usd: 0.04", "unit: image", "need each other"),
        ("unit: image, unit_usd: 0.04", "unit_usd: 0.04", "need each other"),
        ("unit_usd: 0.04", "unit_usd: 0.0000000000001", "finer"),
        ("unit: image, unit_usd: 0.04", "input_usd_per_million: 1", "output_usd_per_million"),
        ("provider: one\n          upstream_model: b", "provider: two\n          upstream_model: b",
         "triton serves no images"),
    ],
)  # fmt: skip
def test_price_or_operation_that_makes_no_sense_is_refused(old: str, new: str, says: str) -> None:
    with pytest.raises(YamlError, match=says):
        parse(MEDIA.replace(old, new), variables={})


def test_speech_that_nobody_could_count_is_refused() -> None:
    by_tokens = "input_usd_per_million: 1, output_usd_per_million: 2"
    text = MEDIA.replace("[image]", "[speech]").replace("unit: image, unit_usd: 0.04", by_tokens)

    with pytest.raises(YamlError, match="sold by characters"):
        parse(text.replace('unit: image, unit_usd: "0.000000000001"', by_tokens), variables={})
