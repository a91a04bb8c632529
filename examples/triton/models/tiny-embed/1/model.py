"""Triton Python-backend model that turns texts into vectors, by hashing.

A vector counts a text's words, pairs of neighbouring words and groups of three letters. Each of
them adds one, or takes one away, at the place that its hash names ("feature hashing"), and the
vector is scaled to length one: texts that share words lie closer together than others.
"""

import json
import re
import zlib

import numpy as np
import triton_python_backend_utils as pb_utils

TOKEN = re.compile(r"\w+|[^\w\s]")


def tokens_of(text):
    return TOKEN.findall(text.lower())


def features_of(tokens):
    yield from tokens
    yield from (" ".join(pair) for pair in zip(tokens, tokens[1:], strict=False))
    for token in tokens:
        framed = f"<{token}>"
        yield from (framed[at : at + 3] for at in range(len(framed) - 2))


def vector_of(tokens, dimensions):
    vector = np.zeros(dimensions, dtype=np.float32)
    for feature in features_of(tokens):
        # Not hash(): that one differs from start to start.
        code = zlib.crc32(feature.encode())
        vector[code % dimensions] += 1.0 if code & 0x8000_0000 else -1.0
    norm = np.linalg.norm(vector)
    if norm == 0:
        vector[0] = norm = 1.0
    return vector / norm


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.max_model_len = int(config["parameters"]["max_model_len"]["string_value"])
        (output,) = (o for o in config["output"] if o["name"] == "embedding")
        self.dimensions = int(output["dims"][0])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
        found = [tokens_of(text.decode(errors="replace")) for text in texts.reshape(-1)]
        longest = max(map(len, found))
        if longest > self.max_model_len:
            message = f"The prompt has {longest} tokens, the limit is {self.max_model_len}"
            error = pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        vectors = np.stack([vector_of(tokens, self.dimensions) for tokens in found])
        counts = np.array([[len(tokens)] for tokens in found], dtype=np.uint32)
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor("embedding", vectors.astype(np.float32)),
                pb_utils.Tensor("num_input_tokens", counts),
            ]
        )
