"""Writes `protos/gen` anew from the `.proto` files: messages, services and their type stubs.

Run by `make protos`. `protos/gen` holds nothing written by hand; it is deleted first.
"""

import shutil
import sys
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent


def generate(out: Path) -> int:
    """Generate into `out`; returns protoc's exit status."""
    files = sorted(str(path.relative_to(HERE)) for path in HERE.glob("turnpike/**/*.proto"))
    shutil.rmtree(out / "turnpike", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    bin_dir = Path(sys.executable).parent
    status: int = protoc.main(
        [
            "protoc",
            f"-I{HERE}",
            f"-I{Path(protoc.__file__).parent / '_proto'}",
            f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={bin_dir / 'protoc-gen-mypy_grpc'}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            *files,
        ]
    )
    for stub in out.glob("turnpike/**/*_pb2_grpc.py*"):
        if "class " not in stub.read_text():
            stub.unlink()
    return status


if __name__ == "__main__":
    sys.exit(generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "gen"))
