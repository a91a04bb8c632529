"""Finds out which contract a model on Triton has, by the names of its inputs; pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from services.router.providers.triton.contract import Contract, LoraSource, unfit
from services.router.providers.triton.custom import ChatTensors, CustomContract
from services.router.providers.triton.trtllm import (
    NO_ADAPTERS,
    TrtLlmApiContract,
    TrtLlmPipelineContract,
)
from services.router.providers.triton.vllm import VllmContract
from services.router.providers.triton.wire import Signature


class ContractName(StrEnum):
    """The contracts; AUTO is the one that the inputs tell of."""

    AUTO = "auto"
    VLLM = "vllm"
    TRTLLM_BLS = "trtllm_bls"
    TRTLLM_LLMAPI = "trtllm_llmapi"
    CUSTOM = "custom"


class ContractWish(NamedTuple):
    """What a model's owner says of its contract.

    `is_whole` tells whether each response repeats the text, None that the contract knows;
    `tensors` are needed by CUSTOM, `adapters` by TensorRT-LLM to find those that callers name.
    """

    name: ContractName = ContractName.AUTO
    is_whole: bool | None = None
    tensors: ChatTensors | None = None
    adapters: Mapping[str, LoraSource] = NO_ADAPTERS


ANY_CONTRACT: Final = ContractWish()
"""The wish of an owner who says nothing."""


def needs_settings(signature: Signature) -> bool:
    """Return whether the settings of the model's configuration matter: not to the vLLM backend."""
    return "sampling_parameters" not in signature.inputs


def contract_of(signature: Signature, wish: ContractWish) -> Contract:
    """Return how a model is asked and read.

    Raises:
        ProviderError: INVALID_RESPONSE: it does not have the tensors that are needed.
    """
    name = wish.name
    if name is ContractName.AUTO:
        name = _found(signature)
    if name is ContractName.CUSTOM:
        if wish.tensors is None:
            raise unfit("has a contract of its own, and nobody named its tensors")
        return CustomContract(signature, wish.tensors)
    if name is ContractName.VLLM:
        if wish.is_whole:
            raise unfit("is one of the vLLM backend, whose text comes in pieces")
        return VllmContract(signature)
    if name is ContractName.TRTLLM_BLS:
        return TrtLlmPipelineContract(signature, is_whole=wish.is_whole, adapters=wish.adapters)
    return TrtLlmApiContract(signature, is_whole=wish.is_whole, adapters=wish.adapters)


def _found(signature: Signature) -> ContractName:
    """Return the contract by what no other one has; the backend's name says nothing."""
    inputs = signature.inputs
    if "sampling_parameters" in inputs:
        return ContractName.VLLM
    if "sampling_param_max_tokens" in inputs:
        return ContractName.TRTLLM_LLMAPI
    if "max_tokens" in inputs and "stop_words" in inputs:
        return ContractName.TRTLLM_BLS
    raise unfit("has the inputs of no contract that is known")
