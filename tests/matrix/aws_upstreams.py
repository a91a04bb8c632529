"""The fakes of Bedrock and SageMaker as upstreams of the matrix."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes import bedrock_upstream as bedrock
from tests.fakes import sagemaker_upstream as sagemaker
from tests.matrix.http_upstreams import openai_script_of, openai_usage
from tests.matrix.reply import (
    ARGUMENTS,
    PIECES_PAUSE_MS,
    PROMPT,
    PROMPT_TOKENS,
    UNTOLD,
    Asked,
    Reply,
    Speaker,
    Told,
)


@dataclass
class BedrockSpeaker(Speaker):
    """A fake of Converse; the first message of a stream is no piece."""

    upstream: bedrock.BedrockUpstream

    def tell(self, reply: Reply, *, is_streaming: bool) -> Asked:
        said = [bedrock.thought(*reply.thoughts, signature="s=")] if reply.thoughts else []
        # A call begins with a message that is no piece either.
        after = 1 + reply.after
        if reply.is_structured:
            said.append(bedrock.tool("t", "give_answer", *reply.pieces))
        elif not reply.tools:
            said.append(bedrock.text(*reply.pieces))
        said += [
            bedrock.tool(f"call_{index}", name, *ARGUMENTS)
            for index, name in enumerate(reply.tools)
        ]
        stop_reason = "tool_use" if reply.tools or reply.is_structured else "end_turn"
        script = bedrock.Script(tuple(said), stop_reason, PROMPT_TOKENS - 6, read=4, written=2)
        if reply.trouble == "refusal" or (reply.trouble == "error" and not is_streaming):
            script.error, script.status = "ServiceUnavailableException", 503
        elif reply.trouble == "error":
            script.exception, script.fail_at = "internalServerException", after
        elif reply.trouble:
            script.fail, script.fail_at = _FAILS[reply.trouble], after
        if reply.trouble in ("error", "junk", "cut"):
            script.delay_ms = PIECES_PAUSE_MS
        self.upstream.script = script
        return Asked(PROMPT)

    def told(self) -> Told | None:
        usage = self.upstream.seen[-1].usage
        if usage is None:
            return None
        prompt = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
        return Told(sum(usage[name] for name in prompt), usage["outputTokens"])

    def made(self) -> int:
        return max(0, self.upstream.seen[-1].messages_sent - 1)

    def is_left(self) -> bool:
        return self.upstream.seen[-1].is_aborted

    def asked_count(self) -> int:
        return len(self.upstream.seen)

    def has_seen(self, picture: str) -> bool:
        return picture in json.dumps(self.upstream.seen[-1].body)


@dataclass
class SageMakerSpeaker(Speaker):
    """A fake of an endpoint whose container speaks OpenAI's API, or makes vectors."""

    upstream: sagemaker.SageMakerUpstream
    is_embedder: bool = False
    after: int = 0

    def tell(self, reply: Reply, *, is_streaming: bool) -> Asked:
        # The envelope is what breaks: the container's own answer is good.
        whole = Reply(reply.pieces, reply.thoughts, reply.tools, reply.is_structured)
        script = sagemaker.Script(openai=openai_script_of(whole, is_streaming=is_streaming))
        if reply.trouble == "refusal" or (reply.trouble == "error" and not is_streaming):
            script.error, script.status = "ServiceUnavailable", 503
        elif reply.trouble == "error":
            script.exception, script.fail_at = "InternalStreamFailure", 1
        elif reply.trouble:
            script.fail, script.fail_at = _FAILS[reply.trouble], 1
        if reply.trouble:
            script.halved_after = self.after = reply.after
            script.delay_ms = PIECES_PAUSE_MS
        self.upstream.script = script
        return Asked(PROMPT)

    def tell_operation(self, name: str) -> Mapping[str, Any]:
        del name
        vectors = [[0.5, 0.25], [0.25, 0.5]]
        container = "embed" if self.is_embedder else "openai"
        self.upstream.script = sagemaker.Script(container, vectors=vectors)
        return {}

    def told(self) -> Told | None:
        if self.is_embedder:
            return Told(UNTOLD, 0)
        return openai_usage(self.upstream.seen[-1].usage)

    def made(self) -> int:
        return self.after if self.upstream.seen[-1].messages_sent else 0

    def is_left(self) -> bool:
        return self.upstream.seen[-1].is_aborted

    def asked_count(self) -> int:
        return len(self.upstream.seen)

    def has_seen(self, picture: str) -> bool:
        return picture in json.dumps(self.upstream.seen[-1].body)


_FAILS = {"cut": "cut", "junk": "junk", "silence": "hang"}
