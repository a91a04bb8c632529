"""A chat over gRPC, token by token: what an internal team may write instead of HTTP and JSON.

    python examples/grpc_client.py "Why is the sea salty?"

Address and key come from `.turnpike/first-run.json` unless they are given. The messages are those
of `protos/turnpike/router/v1`; installing Turnpike brings their Python classes, other languages
generate theirs, and `grpcurl` finds them by reflection.
"""

import argparse
import json
import sys
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from turnpike.router.v1.chat_pb2 import ChatMessage, ChatRequest
from turnpike.router.v1.router_pb2 import RunRequest
from turnpike.router.v1.router_pb2_grpc import RouterServiceStub


def ask(router: RouterServiceStub, options: argparse.Namespace) -> None:
    """Print an answer as it comes, and what it cost."""
    chat = ChatRequest(
        model=options.model,
        messages=[ChatMessage(role="user", content=options.prompt)],
        max_tokens=options.max_tokens,
        stream=True,
    )
    metadata = (("authorization", f"Bearer {options.key}"),) if options.key else ()
    # The deadline goes along: Turnpike and the model behind it give up when it is over.
    batches = router.Run(RunRequest(chat=chat), metadata=metadata, timeout=options.deadline)
    for batch in batches:
        for delta in batch.deltas:
            print(delta.text, end="", flush=True)
        if batch.HasField("finish"):
            usage, charge_usd = batch.finish.usage, batch.finish.charge_nusd / 1e9
            count = f"{usage.prompt_token_count} + {usage.completion_token_count} tokens"
            print(f"\n[{batch.finish.finish_reason}; {count}; ${charge_usd:.9f}]", file=sys.stderr)


def explain(error: grpc.RpcError) -> str:
    """Return what went wrong: a code, a sentence, and Turnpike's reason where it gave one."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            # metadata: param names a field, retry_after_s says when to come back.
            more = ", ".join(f"{name}={value}" for name, value in sorted(info.metadata.items()))
            return f"{error.code().name} {info.reason}: {error.details()} ({more})"
    return f"{error.code().name}: {error.details()}"


def connect(options: argparse.Namespace) -> grpc.Channel:
    """Return a channel: plain text on this machine, TLS with --ca, both sides with --cert."""
    if options.ca is None:
        return grpc.insecure_channel(options.address)
    own = [options.cert_key.read_bytes(), options.cert.read_bytes()] if options.cert else []
    credentials = grpc.ssl_channel_credentials(options.ca.read_bytes(), *own)
    return grpc.secure_channel(options.address, credentials)


def read_options() -> argparse.Namespace:
    """Return the options; what is not given comes from the note of the first start."""
    note_path = Path(".turnpike/first-run.json")
    note = json.loads(note_path.read_text()) if note_path.exists() else {}
    parser = argparse.ArgumentParser(description="Ask a model over gRPC.")
    parser.add_argument("prompt")
    parser.add_argument("--model", default="tiny-chat")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--deadline", type=float, default=30.0, help="seconds for the whole call")
    parser.add_argument("--address", default=note.get("grpc_address", "127.0.0.1:3015"))
    parser.add_argument("--key", default=note.get("api_key", ""))
    parser.add_argument("--ca", type=Path, help="who signed the server's certificate, PEM")
    parser.add_argument("--cert", type=Path, help="own certificate, PEM; it may stand for a key")
    parser.add_argument("--cert-key", type=Path, help="its private key, PEM")
    return parser.parse_args()


def main() -> int:
    """Ask, print, and return the exit code."""
    options = read_options()
    with connect(options) as channel:
        try:
            ask(RouterServiceStub(channel), options)
        except grpc.RpcError as error:
            print(f"\n{explain(error)}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
