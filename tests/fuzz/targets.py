"""Coverage-guided fuzzing of what reads bytes from strangers: `python -m tests.fuzz.targets NAME`.

What follows the name goes to libFuzzer, such as `-runs=20000`, or a folder of inputs to begin with
and to keep new ones in; an empty one is given the seeds. A target fails by raising.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["kit", "gateway", "services"]):
    from tests.fuzz import target_bodies, target_lines, target_rules

_CHUNK: Final = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"a"},"finish_reason":%b}]}\n\n'
)
_STREAM: Final = _CHUNK % b"null" * 2 + _CHUNK % b'"stop"' + b"data: [DONE]\n\n"
_SEEDS: Final[dict[str, list[bytes]]] = {
    "sse": [b"event: a\ndata: b\n\n", b"\xef\xbb\xbfdata:c\r\rdata: d\r\n\r\n", _STREAM],
    "forward": [_STREAM, b'data: {"error":{"message":"x","code":"y"}}\n\n'],
}

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    each.__name__: each
    for each in (
        target_lines.sse,
        target_lines.forward,
        target_lines.stream,
        target_lines.headers,
        target_lines.url,
        target_bodies.chat,
        target_bodies.texts,
        target_bodies.messages,
        target_bodies.responses,
        target_bodies.form,
        target_bodies.answers,
        target_rules.schema,
        target_rules.regex,
    )
}


def _seed(folder: Path, name: str) -> None:
    """Put inputs to begin with into an empty folder: known ones, and noise to draw from."""
    if any(folder.iterdir()):
        return
    noise = random.Random(0)
    seeds = [*_SEEDS.get(name, ()), *(noise.randbytes(64 << size) for size in range(5))]
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)


if __name__ == "__main__":
    name, *options = sys.argv[1:]
    for option in options:
        if not option.startswith("-"):
            _seed(Path(option), name)
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()
