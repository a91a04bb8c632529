"""Signatures of models on Triton, as their servers describe them, and requests to ask of them.

The names, types and ranks are those of the configurations that the makers publish.
"""

from typing import Any

import msgspec

from services.router.constraints import constraint_of
from services.router.providers.port import Body, Call
from services.router.providers.triton.wire import Ask, ModelSettings, Signature, Spec

HEAD = b'{"id":"a","created":1,"model":"m",'


def specs(rank: int, **names: str) -> dict[str, Spec]:
    """Return tensors by datatype: the names are words apart."""
    return {
        name: Spec(datatype, rank) for datatype, given in names.items() for name in given.split()
    }


VLLM = Signature(
    inputs=specs(
        1,
        BYTES="text_input image sampling_parameters",
        BOOL="stream exclude_input_in_output return_finish_reason return_cumulative_logprob"
        " return_logprobs return_num_input_tokens return_num_output_tokens",
    ),
    outputs=specs(
        1,
        BYTES="text_output finish_reason logprobs",
        FP32="cumulative_logprob",
        UINT32="num_input_tokens num_output_tokens",
    ),
)
BLS = Signature(
    inputs=specs(
        2,
        BYTES="text_input bad_words stop_words guided_decoding_guide_type guided_decoding_guide",
        INT32="max_tokens top_k min_tokens num_return_sequences beam_width",
        UINT64="seed lora_task_id",
        FP32="top_p temperature repetition_penalty presence_penalty frequency_penalty",
        BOOL="exclude_input_in_output stream return_log_probs return_num_input_tokens"
        " return_num_output_tokens",
    ),
    outputs=specs(2, BYTES="text_output", INT32="num_input_tokens num_output_tokens"),
    settings=ModelSettings({"accumulate_tokens": "false"}),
)
LLMAPI = Signature(
    inputs=specs(
        1,
        BYTES="text_input image_url sampling_param_stop lora_name lora_path",
        BOOL="streaming sampling_param_exclude_input_from_output return_finish_reason stop",
        INT32="sampling_param_top_k sampling_param_max_tokens",
        FP32="sampling_param_temperature sampling_param_top_p sampling_param_frequency_penalty"
        " sampling_param_presence_penalty",
        UINT64="sampling_param_seed lora_id",
    ),
    outputs=specs(1, BYTES="text_output finish_reason"),
)


def without(signature: Signature, *names: str) -> Signature:
    """Return a signature that lacks some inputs."""
    left = {name: spec for name, spec in signature.inputs.items() if name not in names}
    return signature._replace(inputs=left)


def a_body(**fields: Any) -> Body:
    """Return a request."""
    return msgspec.json.decode(msgspec.json.encode(fields), type=dict[str, msgspec.Raw])


def a_call(*, is_streaming: bool = True, body: Body | None = None, **changes: Any) -> Call:
    """Return an attempt, constrained as `body` says."""
    call = Call(
        request_id="r",
        answer_id="a",
        create_unix_s=1,
        model_id="m",
        upstream_model="m",
        is_streaming=is_streaming,
        max_tokens=9,
        chunk_head=HEAD,
        idle_s=1.0,
    )
    if body is not None:
        call = call._replace(constraint=constraint_of(body))
    return call._replace(**changes)


def values(request: Ask) -> dict[str, Any]:
    """Return the inputs by name: a value, or the list of several."""
    return {
        each.name: each.values[0] if len(each.values) == 1 else list(each.values)
        for each in request
    }
