"""Coverage-guided fuzzing of what reads bytes from strangers: `python -m tests.fuzz.targets NAME`.

What follows the name goes to libFuzzer, such as `-runs=20000`, or is a folder of inputs to begin
with, where new ones are kept; an empty one is given the seeds. A target fails by raising.
"""

import random
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

_CHUNK: Final = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"a"},"finish_reason":%b}]}\n\n'
)
_STREAM: Final = _CHUNK % b"null" * 2 + _CHUNK % b'"stop"' + b"data: [DONE]\n\n"
_SEEDS: Final[dict[str, list[bytes]]] = {
    "sse": [b"event: a\ndata: b\n\n", b"\xef\xbb\xbfdata:c\r\rdata: d\r\n\r\n", _STREAM],
    "forward": [_STREAM, b'data: {"error":{"message":"x","code":"y"}}\n\n'],
}
_NOISE_BYTES: Final = (64, 128, 256, 512, 1024)

TARGETS: Final = {
    **dict.fromkeys(("sse", "forward", "stream", "headers", "url"), "target_lines"),
    **dict.fromkeys(("chat", "texts", "messages", "responses", "form", "answers"), "target_bodies"),
    **dict.fromkeys(("schema", "regex"), "target_rules"),
    **dict.fromkeys(("payment_credential", "payment_challenge"), "target_payments"),
    "payment_transaction": "target_chain",
}
"""Functions and the modules that they are in."""


def main(name: str, options: list[str]) -> None:
    """Fuzz one target; never returns."""
    import atheris

    with atheris.instrument_imports(include=["kit", "gateway", "services"]):
        target = getattr(import_module(f"tests.fuzz.{TARGETS[name]}"), name)
    for option in options:
        if not option.startswith("-"):
            _seed(Path(option), name)
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


def _seed(folder: Path, name: str) -> None:
    """Put inputs to begin with into an empty folder: known ones, and noise to draw from."""
    if any(folder.iterdir()):
        return
    noise = random.Random(0)
    seeds = [*_SEEDS.get(name, ()), *(noise.randbytes(size) for size in _NOISE_BYTES)]
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
