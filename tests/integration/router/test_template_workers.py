"""Clients' chat templates in real worker processes: what they write, and what is stopped. P36."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kit.errors import Reason, TurnpikeError
from services.router.template_jobs import Job
from services.router.template_pool import TemplateLimits, TemplateWorkers, open_template_workers
from tests.fakes.openai_calls import eventually

LIMITS = TemplateLimits(wall_s=1.0, memory_bytes=192 * 1024**2, output_chars_max=100_000)
BOMBS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}" + "{% endfor %}" * 2,
    "loops without end": "{% for a in messages %}{% for b in range(9999) %}" * 6
    + "{% endfor %}{% endfor %}" * 6,
    "large text": "{{ 'x' * 10 ** 10 }}",
    "large text by filters": "{{ 'x' | center(10 ** 10) }}",
    "large text by format": "{{ '%10000000000d' | format(1) }}",
    "large list": "{% set a = [0] * 10 ** 10 %}",
    "large number": "{{ 9 ** (9 ** 9) }}",
    "large range": "{% for a in range(10 ** 10) %}{% endfor %}",
    "doubling": "{% set ns = namespace(t='xx') %}"
    "{% for a in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
    "output flood": "{% for a in range(99999) %}{{ messages[0].content * 1000 }}{% endfor %}",
    "one large output": "{{ 'x' * 200000 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "mutual recursion": "{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}",
    "deep source": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "deep blocks": "{% if 1 %}" * 5_000 + "{% endif %}" * 5_000,
    "backtracking": "{{ messages | tojson | wordwrap(1) | indent | urlize }}" * 2_000
    + "{% for a in range(99999) %}{{ ('a ' * 9999) | wordwrap(1) | title }}{% endfor %}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "builtins": "{{ raise_exception.__globals__['__builtins__'].open('/etc/passwd').read() }}",
    "attr filter": "{{ '' | attr('__class__') | attr('__mro__') }}{{ x.y.z }}",
    "format string": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "change of a variable": "{{ messages.append(1) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os }}",
    "extends": "{% extends 'base' %}",
    "refusal": "{{ raise_exception('no ' + messages[0].content) }}",
    "syntax": "{% if %}",
    "nothing there": "{{ messages[7].content.x }}",
    "division": "{{ 1 / 0 }}",
}


def a_job(source: str = "{{ messages[0].content }}", **changes: Any) -> Job:
    given: dict[str, Any] = {
        "source": source,
        "messages": [{"role": "user", "content": "canary-8841"}],
        "named": {},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unix_s": 1_760_000_000,
        "chars_max": LIMITS.output_chars_max,
    }
    return Job(**{**given, **changes})


def soon() -> float:
    return asyncio.get_running_loop().time() + 60


@pytest.fixture
async def workers() -> AsyncIterator[TemplateWorkers]:
    async with open_template_workers(LIMITS) as opened:
        yield opened


async def test_template_gets_what_an_operators_gets(workers: TemplateWorkers) -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}{{ level }}{% endif %}"
        "{{ strftime_now('%Y') }}{{ {'a': '<é>'} | tojson }}"
    )

    prompt = await workers.render(a_job(source, named={"level": "low"}), deadline_s=soon())

    assert '<s>[user]canary-8841</s>low2025{"a": "<é>"}' == prompt


async def test_nothing_runs_before_the_first_template_and_nothing_after_the_last() -> None:
    async with open_template_workers(LIMITS) as workers:
        assert 0 == workers.living_count
        for _ in range(3):
            await workers.render(a_job(), deadline_s=soon())
        assert 1 == workers.living_count
        (pid,) = children()

    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("name", BOMBS)
async def test_bomb_is_refused_and_the_next_template_is_served(
    workers: TemplateWorkers, name: str
) -> None:
    with pytest.raises(TurnpikeError) as caught:
        await workers.render(a_job(BOMBS[name]), deadline_s=soon())
    served = await workers.render(a_job(), deadline_s=soon())

    assert Reason.INVALID_VALUE is caught.value.reason
    assert {"param": "chat_template"} == caught.value.metadata
    assert "canary" not in caught.value.message
    assert "canary-8841" == served


async def test_workers_that_are_busy_make_others_wait_or_turn_them_away() -> None:
    limits = TemplateLimits(wall_s=1.0, workers_max=1, waiting_max=1)
    bomb = a_job(BOMBS["nested loops"])

    async with open_template_workers(limits) as workers:
        await workers.render(a_job(), deadline_s=soon())
        first = asyncio.ensure_future(workers.render(bomb, deadline_s=soon()))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(workers.render(a_job(), deadline_s=soon()))
        await asyncio.sleep(0)
        with pytest.raises(TurnpikeError) as turned_away:
            await workers.render(a_job(), deadline_s=soon())
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        busy = asyncio.ensure_future(workers.render(bomb, deadline_s=soon()))
        await asyncio.sleep(0)
        with pytest.raises(TurnpikeError) as too_late:
            await workers.render(a_job(), deadline_s=asyncio.get_running_loop().time())
        await asyncio.wait([busy])

    assert isinstance(outcomes[0], TurnpikeError)
    assert "canary-8841" == outcomes[1]
    assert Reason.OVERLOADED is turned_away.value.reason
    assert Reason.OVERLOADED is too_late.value.reason
    assert isinstance(busy.exception(), TurnpikeError)


async def test_client_that_leaves_takes_its_worker_along(workers: TemplateWorkers) -> None:
    await workers.render(a_job(), deadline_s=soon())
    (pid,) = children()
    job = asyncio.ensure_future(workers.render(a_job(BOMBS["nested loops"]), deadline_s=soon()))
    await eventually(lambda: processor_time(pid) > 20)

    job.cancel()
    with suppress(asyncio.CancelledError):
        await job

    await eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert "canary-8841" == await workers.render(a_job(), deadline_s=soon())


async def test_worker_has_no_secret_no_network_name_and_hard_limits(
    workers: TemplateWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-env-5521")
    await workers.render(a_job(), deadline_s=soon())
    (pid,) = children()

    variables = Path(f"/proc/{pid}/environ").read_bytes()
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    status = Path(f"/proc/{pid}/status").read_text()
    opened = [path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir()]

    assert b"canary" not in variables
    found = {line[:26].strip(): line[26:].split()[:2] for line in limits}
    assert [str(LIMITS.memory_bytes)] * 2 == found["Max address space"]
    assert ["0", "0"] == found["Max file size"]
    assert ["0", "0"] == found["Max core file size"]
    assert "unlimited" != found["Max cpu time"][0]
    assert "NoNewPrivs:\t1" in status
    # Standard input, output and errors: two ends of ours, and nothing.
    assert 3 == len(opened)


async def test_killed_worker_is_replaced(workers: TemplateWorkers) -> None:
    await workers.render(a_job(), deadline_s=soon())
    (pid,) = children()
    os.kill(pid, 9)
    await eventually(lambda: workers.living_count == 0)

    assert "canary-8841" == await workers.render(a_job(), deadline_s=soon())


ROUTER = """
import asyncio, sys, uvloop
from tests.integration.router.test_template_workers import LIMITS, a_job, soon
from services.router.template_pool import open_template_workers

async def main():
    async with open_template_workers(LIMITS) as workers:
        print(await workers.render(a_job(), deadline_s=soon()), flush=True)
        await asyncio.Event().wait()

uvloop.run(main())
"""


async def test_worker_dies_with_a_router_that_is_killed() -> None:
    router = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        ROUTER,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert router.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert b"canary-8841\n" == await router.stdout.readline()
        (pid,) = children(router.pid)
    finally:
        router.kill()
        await router.wait()

    await eventually(lambda: not Path(f"/proc/{pid}").exists())


def children(parent_pid: int | None = None) -> list[int]:
    """Return the ids of the workers of a process, this one if none is named."""
    parent = parent_pid or os.getpid()
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(pid) for pid in found if b"template_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def processor_time(pid: int) -> int:
    """Return the ticks that a process has used."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[11])
