"""A provider's answer to a request that constrains it: unwrapped, gathered, and judged; pure.

Only such requests come through here. A judgement falls when the upstream has ended: before
anything was handed over another upstream can still be tried.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from services.router.constraints import Constraint
from services.router.gathering import Gathered, judge
from services.router.providers.constraint_fields import ignored_hints, is_wrapped
from services.router.providers.port import Batch, Call, InvalidOutputError
from services.router.unwrapping import ChoiceUnwrapper


async def constrained(
    batches: AsyncGenerator[Batch, None],
    call: Call,
    constraint: Constraint,
    *,
    on_unjudged: Callable[[], None],
) -> AsyncGenerator[Batch, None]:
    """Yield an answer's batches; the last one only if the text kept to the constraint.

    `on_unjudged` is called when a text that should be judged cannot be.

    Raises:
        ProviderError: As the provider did; INVALID_OUTPUT when the text broke the constraint.
    """
    engine = call.options.get("engine", "openai")
    ignored = ignored_hints(constraint, engine)
    unwrapper = ChoiceUnwrapper(constraint) if is_wrapped(constraint, engine) else None
    gathered = Gathered() if constraint.is_judged else None
    async with aclosing(batches):
        async for batch in batches:
            if unwrapper is not None:
                unwrapper.edit(batch)
            if gathered is not None:
                gathered.add(batch)
            is_last = batch.HasField("finish")
            if is_last and gathered is not None:
                verdict = judge(constraint, gathered)
                if verdict is False:
                    raise InvalidOutputError(constraint.param, finish=batch.finish)
                if verdict is None:
                    on_unjudged()
            if ignored and (is_last or batch.content_event_count):
                batch.route.ignored_parameters.extend(ignored)
                ignored = ()
            yield batch
