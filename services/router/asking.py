"""What a deployment is asked: the attempt, and the request without what it is not told."""

from services.router.cache_marks import NAME as CACHE_MARK
from services.router.cache_marks import without_marks
from services.router.catalog import Deployment
from services.router.fleet import Attempt
from services.router.providers.port import Asked, Call
from services.router.run import Run, chunk_head, members


def ask(run: Run, attempt: Attempt, *, idle_s: float) -> Asked:
    """Return what a deployment is asked; `run.ignored` names what it is not told.

    `idle_s` bounds the silence between two reads.
    """
    deployment = attempt.deployment
    call, body = _call(run, deployment, idle_s), run.body
    if run.own is not None and run.own.key is not None:
        call = call._replace(credential=run.own.key.secret)
    unknown = run.envelope.unknown_fields
    if not unknown and not run.may_have_cache_marks:
        return Asked(call, body)
    ignored = () if deployment.forwards_unknown else tuple(unknown)
    body = {name: raw for name, raw in body.items() if name not in ignored}
    if run.may_have_cache_marks and not attempt.traits.takes_cache_marks:
        body, is_marked = without_marks(body)
        if is_marked and CACHE_MARK not in ignored:
            ignored = (*ignored, CACHE_MARK)
    run.ignored = ignored
    return Asked(call, body)


def _call(run: Run, deployment: Deployment, idle_s: float) -> Call:
    envelope = run.envelope
    answer_id = envelope.id_prefix + run.request_id
    head = chunk_head(run, answer_id) if envelope.is_streaming else b""
    call = Call(
        request_id=run.request_id,
        answer_id=answer_id,
        create_unix_s=run.create_unix_s,
        model_id=run.model.model_id,
        upstream_model=deployment.upstream_model,
        is_streaming=envelope.is_streaming,
        max_tokens=envelope.max_tokens,
        chunk_head=head,
        idle_s=idle_s,
        options=deployment.options,
        adapter=envelope.adapter,
        chunk_defaults=members(envelope.answer_defaults) if envelope.is_streaming else b"",
        constraint=run.constraint,
        operation=envelope.operation,
    )
    if not envelope.unit_count_max:
        return call
    return call._replace(
        unit_count_max=envelope.unit_count_max,
        content_type=envelope.content_type,
        form=run.form,
    )
