"""Models whose tensors their owner has named, from the catalogue to the reading."""

from typing import Any

import pytest

from kit.yaml_lines import YamlError
from services.router.adapters import contract_wish
from services.router.catalog import Deployment
from services.router.catalog_build import build
from services.router.catalog_file import parse
from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.contract import Contract, LoraSource, Part
from services.router.providers.triton.contracts import ContractName, ContractWish, contract_of
from services.router.providers.triton.custom import ChatTensors
from services.router.providers.triton.reader import OutputNames
from services.router.providers.triton.wire import Signature
from tests.unit.router.triton_models import a_body, a_call, specs, values, without

SIGNATURE = Signature(
    inputs=specs(1, BYTES="prompt halt", BOOL="live count", UINT32="limit", FP64="heat"),
    outputs=specs(1, BYTES="said why", INT64="asked made"),
)
OUTPUTS = OutputNames("said", "why", "asked", "made")
TENSORS = ChatTensors(
    text="prompt",
    max_tokens="limit",
    flags=("live", "count"),
    parameters={"temperature": "heat", "bad_words": "halt"},
    outputs=OUTPUTS,
)
FILE = """\
catalogue:
  providers:
    one: {{kind: openai_compat, base_url: "http://127.0.0.1:9/v1"}}
    two: {{kind: triton}}
  models:
    m:
      context_length: 8192
      operations: [{operation}]
      deployments:
        - name: d
          provider: {provider}
          upstream_model: m
          price: {{input_usd_per_million: 1, output_usd_per_million: 1}}
          {more}
"""


def custom(signature: Signature = SIGNATURE, tensors: ChatTensors = TENSORS) -> Contract:
    return contract_of(signature, ContractWish(ContractName.CUSTOM, tensors=tensors))


def without_outputs(*names: str) -> Signature:
    left = {name: spec for name, spec in SIGNATURE.outputs.items() if name not in names}
    return SIGNATURE._replace(outputs=left)


def with_outputs(outputs: OutputNames) -> ChatTensors:
    return ChatTensors(text="prompt", max_tokens="limit", outputs=outputs)


def read(contract: Contract, *responses: dict[str, Any], **fields: Any) -> list[Part]:
    reader = contract.reader(a_call(), a_body(**fields))
    return [*(part for each in responses for part in reader.read(each)), *reader.end()]


def test_custom_model_is_asked_by_the_names_and_types_it_has() -> None:
    body = a_body(temperature=1, bad_words=["x", "y"], presence_penalty=0, stop="z")

    request = custom().ask(a_call(), body, "p")

    assert {
        "prompt": "p",
        "limit": 9,
        "live": True,
        "count": True,
        "heat": 1.0,
        "halt": ["x", "y"],
    } == values(request)
    assert {"UINT32", "FP64", "BOOL", "BYTES"} == {each.datatype for each in request}


@pytest.mark.parametrize("param", ["top_p", "presence_penalty", "n", "tools"])
def test_custom_model_refuses_what_nobody_mapped(param: str) -> None:
    with pytest.raises(ProviderError) as caught:
        custom().ask(a_call(), a_body(**{param: 0.5}), "p")

    assert (Failure.UNSUPPORTED, param) == (caught.value.failure, caught.value.param)


@pytest.mark.parametrize(
    ("signature", "tensors"),
    [
        (without(SIGNATURE, "limit"), TENSORS),
        (without(SIGNATURE, "heat"), TENSORS),
        (without_outputs("why"), TENSORS),
        (without_outputs("said"), TENSORS),
        (SIGNATURE, ChatTensors(text="heat", max_tokens="limit", outputs=OUTPUTS)),
        (SIGNATURE, ChatTensors(text="prompt", max_tokens="heat", outputs=OUTPUTS)),
        (SIGNATURE, with_outputs(OutputNames("made"))),
    ],
)
def test_model_without_the_tensors_that_were_named_does_not_fit(
    signature: Signature, tensors: ChatTensors
) -> None:
    with pytest.raises(ProviderError) as caught:
        custom(signature, tensors)

    assert Failure.INVALID_RESPONSE is caught.value.failure


def test_custom_counts_may_be_totals_and_the_end_may_be_told() -> None:
    responses = [
        {"said": "a", "asked": 4, "made": 1, "why": ""},
        {"said": "b", "asked": 4, "made": 3, "why": "length"},
    ]

    parts = read(custom(tensors=with_outputs(OUTPUTS._replace(are_totals=True))), *responses)

    assert [1, 2] == [part.num_output_tokens for part in parts]
    assert "length" == parts[-1].finish_reason


def test_custom_model_that_tells_nothing_but_text_stops_at_its_end() -> None:
    contract = custom(tensors=with_outputs(OutputNames("said", is_whole=True)))

    parts = read(contract, {"said": "a"}, {"said": "a b STOP c"}, stop="STOP")

    assert not contract.is_counted
    assert ("a b ", "stop") == ("".join(part.text for part in parts), parts[-1].finish_reason)


def test_custom_model_that_should_say_why_it_ended_has_not_ended_without() -> None:
    parts = read(custom(), {"said": "a", "asked": 1, "made": 1, "why": "None"})

    assert [""] == [part.finish_reason for part in parts]


# The catalogue.


def deployed(more: str, provider: str = "two", operation: str = "chat") -> Deployment:
    text = FILE.format(more=more, provider=provider, operation=operation)
    model = build(parse(text, variables={}), generation=1).find("m")
    assert model is not None
    return model.deployments[0]


def test_catalogue_says_what_a_custom_models_tensors_are_called() -> None:
    more = (
        "contract: custom\n          text_form: whole\n          chat_tensors: {input: prompt,"
        " max_tokens: limit, stream: live, flags: [count], parameters: {temperature: heat,"
        " top_k: best}, output: said, prompt_tokens: asked, completion_tokens: made}"
    )

    deployment = deployed(more)
    wish = contract_wish(deployment.options)

    assert (ContractName.CUSTOM, True) == (wish.name, wish.is_whole)
    assert (
        ChatTensors(
            text="prompt",
            max_tokens="limit",
            flags=["live", "count"],
            parameters={"temperature": "heat", "top_k": "best"},
            outputs=OutputNames("said", "", "asked", "made", is_whole=True),
        )
        == wish.tensors
    )
    assert "top_k" in deployment.capabilities
    assert "min_p" not in deployment.capabilities


def test_capabilities_follow_a_declared_contract() -> None:
    found = {
        name: deployed(f"contract: {name}").capabilities
        for name in ("auto", "vllm", "trtllm_bls", "trtllm_llmapi")
    }

    assert found["auto"] == found["vllm"]
    assert "image_url" in found["auto"]
    assert "image_url" not in found["trtllm_bls"]
    assert {"repetition_penalty", "stop"} <= found["trtllm_bls"]
    assert "repetition_penalty" not in found["trtllm_llmapi"]
    assert contract_wish(deployed("contract: trtllm_bls").options) == ContractWish(
        ContractName.TRTLLM_BLS, adapters={}
    )
    assert contract_wish(deployed("").options) == ContractWish(adapters={})


def test_catalogue_says_where_adapters_are() -> None:
    more = "adapters: [a, b]\n          lora: {a: {task_id: 7, path: /l/a}}"

    wish = contract_wish(deployed(more).options)

    assert {"a": LoraSource(7, "/l/a")} == wish.adapters


@pytest.mark.parametrize(
    ("more", "provider", "operation", "part"),
    [
        ("contract: custom", "two", "chat", "need each other"),
        ("chat_tensors: {}", "two", "chat", "need each other"),
        ("contract: vllm", "one", "chat", "only a language model on triton"),
        ("text_form: whole", "two", "embedding", "only a language model on triton"),
        ("lora: {a: {task_id: 7}}", "two", "chat", "none of the adapters"),
        ("contract: vllm\n          text_form: whole", "two", "chat", "comes in pieces"),
        ("contract: magic", "two", "chat", "contract"),
        (
            "{contract: custom, chat_tensors: {parameters: {tools: x}}}",
            "two",
            "chat",
            "no parameter",
        ),
    ],
)
def test_contract_that_does_not_fit_is_refused(
    more: str, provider: str, operation: str, part: str
) -> None:
    lines = more.strip("{}").replace("custom, ", "custom\n          ") if "{con" in more else more
    lines = lines + "}" * (lines.count("{") - lines.count("}"))

    with pytest.raises(YamlError) as caught:
        deployed(lines, provider, operation)

    assert part in str(caught.value)
