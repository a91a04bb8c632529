"""The form of what the catalogue says of a model's tensors on Triton."""

from typing import Final, Literal

from pydantic import Field, model_validator

from services.router.provider_entries import Entry

ContractChoice = Literal["auto", "vllm", "trtllm_bls", "trtllm_llmapi", "custom"]
TextForm = Literal["auto", "pieces", "whole"]

PARAMETERS: Final = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed"}
    | {"repetition_penalty", "min_tokens", "stop", "stop_token_ids", "bad_words", "ignore_eos"}
    | {"skip_special_tokens"}
)
"""Request fields that an owner may map to an input."""


class TensorsEntry(Entry):
    """What the tensors of an embedding model on Triton are called."""

    input: str = Field("text", min_length=1, description="BYTES, the texts.")
    output: str = Field("embedding", min_length=1, description="FP32, a vector for each text.")
    token_count: str = Field(
        "num_input_tokens", description="Tokens of each text; used if the model has it."
    )
    is_shortenable: bool = Field(
        default=False, description="Whether the first numbers of a vector are a vector too."
    )


class LoraEntry(Entry):
    """What TensorRT-LLM on Triton needs to know of a LoRA adapter."""

    task_id: int = Field(ge=0, lt=2**63, description="Its number, the same at every server.")
    path: str = Field("", description="Where the server finds it; for the LLM API only.")


class ChatTensorsEntry(Entry):
    """What the tensors of a language model on Triton with a contract of its own are called.

    Types and ranks are the model's own; tokens are estimated unless both counts are there.
    """

    input: str = Field("text_input", min_length=1, description="BYTES, the prompt.")
    max_tokens: str = Field(
        "max_tokens", min_length=1, description="A whole number, the output bound."
    )
    stream: str = Field("", description="BOOL, raised in every request; empty if it has none.")
    flags: list[str] = Field(
        default_factory=list, description="More BOOL inputs that are raised in every request."
    )
    parameters: dict[str, str] = Field(
        default_factory=dict, description="Inputs by the request field that they take."
    )
    output: str = Field("text_output", min_length=1, description="BYTES, the text.")
    finish_reason: str = Field("", description="BYTES, stop or length at the end.")
    prompt_tokens: str = Field("", description="A whole number, tokens of the prompt.")
    completion_tokens: str = Field(
        "", description="A whole number, tokens that are new in each response."
    )
    counts_are_totals: bool = Field(
        default=False, description="Whether `completion_tokens` are running totals instead."
    )

    @model_validator(mode="after")
    def _fields_exist(self) -> "ChatTensorsEntry":
        if unknown := sorted(self.parameters.keys() - PARAMETERS):
            raise ValueError(f"{unknown[0]} is no parameter; {', '.join(sorted(PARAMETERS))} are")
        return self
