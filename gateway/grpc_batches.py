"""The router's batches as a gRPC caller gets them: the whole event stream, or deltas; pure.

Nothing of a batch is handed on that HTTP would not show.
"""

import msgspec

from gateway.call import Api, ModelCall, StreamShape
from gateway.openai.answer import last_events
from gateway.openai.deltas import deltas_of, deltas_of_events
from gateway.openai.dialect import Dialect
from kit.errors import TurnpikeError
from turnpike.router.v1 import router_pb2

Batch = router_pb2.RunResponse


class Batches(msgspec.Struct, eq=False):
    """Writes one answer's batches anew; `is_typed` for a caller who wants deltas and no JSON."""

    api: Api
    call: ModelCall
    dialect: Dialect
    is_typed: bool
    request_id: str = ""
    shape: StreamShape | None = None

    @property
    def has_events(self) -> bool:
        """Whether the answer is an event stream; speech comes as bytes."""
        is_speech = self.call.operation == router_pb2.OPERATION_SPEECH
        return self.call.is_streaming and not self.is_typed and not is_speech

    def begin(self, route: router_pb2.Route) -> None:
        """Take the route, before anything else."""
        self.request_id = route.request_id
        if self.has_events:
            self.shape = self.api.stream(self.call, route.request_id)

    def middle(self, batch: Batch) -> Batch | None:
        """Return what a caller gets of a batch behind which more comes; None for nothing.

        Raises:
            TurnpikeError: `UPSTREAM_INVALID_RESPONSE` for chunks that are none.
        """
        message = self._of(batch)
        if self.is_typed:
            message.deltas.extend(deltas_of_events(batch.sse))
        else:
            message.sse = self.shape.feed(batch.sse) if self.shape else batch.sse
        return message if message.ListFields() else None

    def last(self, batch: Batch) -> Batch:
        """Return the end of a good answer.

        Raises:
            TurnpikeError: As `middle`.
        """
        message, finish = self._of(batch), batch.finish
        if not self.call.is_streaming:
            if self.is_typed:
                message.deltas.extend(deltas_of([batch.completion]))
            else:
                message.completion = self.api.whole(batch.completion, self.call, self.request_id)
        elif self.is_typed:
            message.deltas.extend(deltas_of_events(batch.sse))
            message.deltas.extend(deltas_of(finish.finish_chunks))
        elif self.shape is not None:
            message.sse = self.shape.end(batch.sse, finish)
        elif self.has_events:
            usage = self.call.include_usage
            message.sse = batch.sse + last_events(finish, self.dialect, include_usage=usage)
        message.finish.usage.CopyFrom(finish.usage)
        message.finish.finish_reason = finish.finish_reason
        message.finish.charge_nusd = finish.charge_nusd
        return message

    def broken(self, batch: Batch, error: TurnpikeError) -> Batch:
        """Return the end of an answer that failed under way.

        Raises:
            TurnpikeError: As `middle`.
        """
        message = self.middle(batch) or Batch()
        if self.has_events:
            message.sse += self.api.error_event(error, self.dialect, self.request_id)
        message.error.CopyFrom(batch.error)
        return message

    def _of(self, batch: Batch) -> Batch:
        """Return a message with what every kind of batch may have."""
        message = Batch(
            content_event_count=batch.content_event_count,
            content_type=batch.content_type,
            data=batch.data,
        )
        if batch.HasField("running_usage"):
            message.running_usage.CopyFrom(batch.running_usage)
        if batch.HasField("route"):
            route = batch.route
            message.route.CopyFrom(route)
            # HTTP shows its id only.
            message.route.ClearField("deployment")
        return message
