"""Who a key speaks for: auth's answer in plain fields, read many times for each request."""

from dataclasses import dataclass

from turnpike.type.v1 import principal_pb2


@dataclass(slots=True)
class Principal:
    """A verified caller; a limit of 0 means that there is none."""

    account_id: str
    key_id: str
    tier: str = ""
    dialect: str = ""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent_requests: int = 0
    is_strict: bool = False
    routing_strategy: str = ""
    is_external_allowed: bool | None = None

    @classmethod
    def of(cls, message: principal_pb2.Principal) -> "Principal":
        """Return the fields of auth's message."""
        return cls(
            account_id=message.account_id,
            key_id=message.key_id,
            tier=message.tier,
            dialect=message.dialect,
            requests_per_minute=message.requests_per_minute,
            tokens_per_minute=message.tokens_per_minute,
            concurrent_requests=message.concurrent_requests,
            is_strict=message.is_strict,
            routing_strategy=message.routing_strategy,
            is_external_allowed=(
                message.is_external_allowed if message.HasField("is_external_allowed") else None
            ),
        )
