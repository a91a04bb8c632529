"""The engine of tiny-chat behind the tensors of TensorRT-LLM's `tensorrt_llm_bls`.

What clients of that pipeline meet is here: every tensor has a batch dimension, the likeliest token
is taken unless the request says how to sample, the stop word stays in the text, nothing says why a
text ended, an error is a traceback, and the end of a call is a response without data.
"""

import collections
import importlib.util
import json
import os
import re
import sys
import threading
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils

ENGINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tiny-chat", "1")
ADAPTERS = {7: "loud"}  # what a LoRA task's id stands for


def load_engine():
    sys.path.append(ENGINE)
    spec = importlib.util.spec_from_file_location("tiny_chat", os.path.join(ENGINE, "model.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


engine = load_engine()
NUMBERS = (
    "top_k",
    "top_p",
    "temperature",
    "repetition_penalty",
    "min_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)
_ALTERNATIVES = re.compile(r"\((.+)\)", re.DOTALL)
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Generation(engine.Generation):
    """One request of this contract."""

    def __init__(self, request, model, max_model_len):
        super().__init__(request, model, max_model_len)
        # A stop word may come in several responses.
        self.sequences[0].kept = 0

    def given(self, request):
        """What the request says, as tiny-chat's sampling parameters."""
        found = {"max_tokens": int(self.read(request, "max_tokens"))}
        for name in NUMBERS:
            value = self.read(request, name, None)
            if value is not None:
                found[name] = value.item()
        if "top_k" not in found and "top_p" not in found:
            found["temperature"] = 0.0
        words = pb_utils.get_input_tensor_by_name(request, "stop_words")
        if words is not None:
            found["stop"] = [word.decode() for word in words.as_numpy().reshape(-1)]
        task = self.read(request, "lora_task_id", None)
        if task is not None:
            if int(task) not in ADAPTERS:
                raise ValueError(f"LoRA task {int(task)} not found in cache")
            found["lora_name"] = ADAPTERS[int(task)]
        kind = self.read(request, "guided_decoding_guide_type", None)
        if kind is not None:
            found["structured_outputs"] = self.guide(request, kind.decode())
        return json.dumps({**found, "include_stop_str_in_output": True})

    def guide(self, request, kind):
        guide = self.read(request, "guided_decoding_guide", b"").decode()
        whole = _ALTERNATIVES.fullmatch(guide)
        if kind != "regex" or whole is None:
            raise ValueError(f"guided_decoding_guide of type {kind} is not known")
        return json.dumps({"choice": [_ESCAPED.sub(r"\1", c) for c in _BAR.split(whole[1])]})

    def send(self, done):
        self.sender.send(self.response())
        if done:
            self.sender.send(flags=engine.FINAL)

    def fail(self, message, code):
        fail(self.sender, message, code)

    def response(self):
        (sequence,) = self.sequences
        new = sequence.take()
        if self.accumulates:
            new = self.whole = getattr(self, "whole", "") + new
        text = (self.prompt if self.echo else "") + new
        tensors = [pb_utils.Tensor("text_output", np.array([[text.encode()]], np.object_))]

        def add(name, value):
            tensors.append(pb_utils.Tensor(name, np.array([[value]], np.int32)))

        add("batch_index", 0)
        add("sequence_index", 0)
        if self.wants["return_num_input_tokens"]:
            add("num_input_tokens", self.prompt_tokens)
        if self.wants["return_num_output_tokens"]:
            add("num_output_tokens", sequence.tokens - self.counted[0])
        self.counted = [sequence.tokens]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def fail(sender, message, code):
    error = pb_utils.TritonError(message, code)
    sender.send(pb_utils.InferenceResponse(error=error))
    sender.send(flags=engine.FINAL)


class Gauges:
    """The metrics of TensorRT-LLM that tell how many requests there are."""

    def __init__(self, model_name):
        self.family = pb_utils.MetricFamily(
            name="nv_trt_llm_request_metrics",
            description="TRT LLM request metrics",
            kind=pb_utils.MetricFamily.GAUGE,
        )
        labels = {"model": model_name, "version": "1"}
        self.gauges = {
            kind: self.family.Metric(labels={**labels, "request_type": kind})
            for kind in ("active", "waiting", "max")
        }

    def show(self, **counts):
        for kind, count in counts.items():
            self.gauges[kind].set(count)


class TritonPythonModel(engine.TritonPythonModel):
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        Generation.accumulates = parameters["accumulate_tokens"]["string_value"] == "true"
        self.limit = int(parameters["max_num_requests"]["string_value"])
        self.running = 0
        self.waiting = collections.deque()
        self.lock = threading.Lock()
        self.gauges = Gauges(args["model_name"])
        self.gauges.show(active=0, waiting=0, max=self.limit)
        super().initialize(args)

    def execute(self, requests):
        for request in requests:
            try:
                generation = Generation(request, self.model, self.max_model_len)
            except Exception:
                message = traceback.format_exc()
                fail(request.get_response_sender(), message, pb_utils.TritonError.INTERNAL)
                continue
            with self.lock:
                self.waiting.append(generation)
                self.admit()
        return None

    def admit(self):
        """Lets waiting requests run as long as there is room; the lock is held."""
        while self.waiting and self.running < self.limit:
            self.running += 1
            self.arrived.put(self.waiting.popleft())
        self.gauges.show(active=self.running, waiting=len(self.waiting))

    def advance(self, generation):
        done = super().advance(generation)
        if done:
            with self.lock:
                self.running -= 1
                self.admit()
        return done

    def finalize(self):
        with self.lock:
            left, self.waiting = self.waiting, collections.deque()
        for generation in left:
            generation.fail("Model is unloading", pb_utils.TritonError.UNAVAILABLE)
        super().finalize()
