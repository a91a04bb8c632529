"""Failures of a real Triton through the adapter, and the server's own traps."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.wire import Spec, tensor
from tests.fixtures.triton import ENVIRONMENT, Triton
from tests.integration.router.triton_calls import (
    PATIENCE_S,
    Open,
    Transport,
    a_body,
    a_call,
    eventually,
    failure_of,
    open_transport,
    opener,
    run_out,
    start_failure,
    stream,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["grpc", "http"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@pytest.fixture
def open_model(triton: Triton, transport: Transport) -> Open:
    return opener(triton, transport)


async def test_triton_without_the_model_is_not_found_and_does_not_hang(open_model: Open) -> None:
    async with open_model("no-such-model") as provider:
        error, _ = await failure_of(provider, a_call(), a_body())

        assert error.failure is Failure.NOT_FOUND
        assert await provider.probe() is False


async def test_triton_error_without_a_final_flag_ends_the_request(
    triton: Triton, transport: Transport
) -> None:
    async with open_transport(triton, transport, "no-such-model") as way:
        error = await start_failure(way, (tensor("text_input", Spec("BYTES"), ["x"]),))

    assert error.failure is Failure.NOT_FOUND


async def test_triton_input_that_the_model_does_not_have_is_not_the_clients_fault(
    triton: Triton,
) -> None:
    # Over HTTP an unknown key is a parameter of the request, which nobody reads.
    async with open_transport(triton, "grpc", "tiny-chat") as way:
        given = tensor("text_input", Spec("BYTES"), ["x"])
        error = await start_failure(way, (given, given._replace(name="no_such_input")))

    assert error.failure is Failure.INVALID_RESPONSE


async def test_triton_bad_parameter_is_rejected_by_name(open_model: Open) -> None:
    async with open_model() as provider:
        error, _ = await failure_of(provider, a_call(), a_body(temperature=-1))

    assert error.failure is Failure.REJECTED
    assert error.message == "Parameter `temperature` was refused by the model."
    assert error.status == 400


async def test_triton_prompt_that_is_too_long_is_named_so(open_model: Open) -> None:
    async with open_model() as provider:
        error, _ = await failure_of(provider, a_call(), a_body("salt " * 5000))

    assert error.failure is Failure.CONTEXT_LENGTH


async def test_triton_failing_before_the_first_token_is_retryable_and_tells_nothing(
    open_model: Open,
) -> None:
    async with open_model("tiny-paced") as provider:
        error, batches = await failure_of(provider, a_call(), a_body("[crash after 0]"))

    assert batches == []
    assert error.is_retryable
    assert error.failure is Failure.INVALID_RESPONSE
    assert "crash" not in error.message


@pytest.mark.parametrize("fault", ["crash", "abort"])
async def test_triton_breaking_off_after_some_tokens_is_incomplete(
    open_model: Open, fault: str
) -> None:
    async with open_model("tiny-paced") as provider:
        body = a_body(f"[{fault} after 6]", ignore_eos=True, seed=1)

        error, batches = await failure_of(provider, a_call(), body)

    assert error.failure is Failure.INCOMPLETE
    assert batches[-1].running_usage.completion_token_count >= 1
    assert not any(batch.HasField("finish") for batch in batches)


async def test_triton_silent_before_the_first_token_is_a_timeout_that_stops_it(
    open_model: Open, triton: Triton, transport: Transport
) -> None:
    # The wait is long enough for the request to reach a busy server, and ends before it speaks.
    seed = 4300 + (transport == "grpc")
    fault = "[silence after 0]" if transport == "grpc" else "[speech after 200]"
    async with open_model("tiny-paced") as provider:
        body = a_body(fault, seed=seed, ignore_eos=True)
        call = a_call(max_tokens=3000)

        error, batches = await failure_of(provider, call, body, wait_s=1.5)
        await eventually(lambda: triton.journal(seed)[1])

    assert error.failure is Failure.TIMEOUT
    assert batches == []


async def test_triton_silent_in_the_middle_is_a_timeout(open_model: Open) -> None:
    async with open_model("tiny-paced") as provider:
        body = a_body("[silence after 5]", seed=1, ignore_eos=True)
        call = a_call(max_tokens=3000, idle_s=0.5)

        error, batches = await failure_of(provider, call, body)

    assert error.failure is Failure.TIMEOUT
    assert batches != []


async def test_triton_plain_answer_keeps_to_its_deadline(open_model: Open) -> None:
    async with open_model("tiny-paced") as provider:
        call = a_call(is_streaming=False, max_tokens=3000)

        error, _ = await failure_of(provider, call, a_body(seed=1, ignore_eos=True), wait_s=0.5)

    assert error.failure is Failure.TIMEOUT


async def test_triton_probe_is_true_for_a_ready_model(open_model: Open) -> None:
    async with open_model() as provider:
        is_ready = await provider.probe()

    assert is_ready is True


async def test_triton_that_is_not_there_cannot_be_reached(transport: Transport) -> None:
    nowhere = Triton(0, "127.0.0.1:1", "127.0.0.1:1", Path("/nonexistent"))
    async with opener(nowhere, transport)() as provider:
        error, _ = await failure_of(provider, a_call(), a_body())

        assert error.failure is Failure.CONNECT
        assert await provider.probe() is False


async def test_triton_killed_in_the_middle_is_incomplete_on_both_transports(
    doomed_triton: Triton,
) -> None:
    transports: tuple[Transport, Transport] = ("grpc", "http")
    body = a_body(seed=5, ignore_eos=True)
    errors = []
    async with asyncio.TaskGroup() as group:
        begun = asyncio.Barrier(len(transports) + 1)

        async def read(transport: Transport) -> None:
            open_model = opener(doomed_triton, transport)
            async with open_model("tiny-paced") as provider:
                batches = stream(provider, a_call(max_tokens=3000), body)
                await anext(batches)
                await begun.wait()
                with pytest.raises(ProviderError) as caught:
                    await run_out(batches)
                errors.append(caught.value.failure)
                assert await provider.probe() is False

        for transport in transports:
            group.create_task(read(transport))
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
        doomed_triton.kill()

    assert errors == [Failure.INCOMPLETE, Failure.INCOMPLETE]


# The server itself.


def test_triton_stub_runs_on_the_library_of_its_own_python(triton: Triton) -> None:
    stubs = [
        folder
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and is_stub_of(folder, triton.pid)
    ]

    libraries = {
        line.split()[-1]
        for stub in stubs
        for line in (stub / "maps").read_text().splitlines()
        if "libpython" in line
    }

    assert len(stubs) == len(list(triton.repository.iterdir()))
    assert len(libraries) == 1
    assert base_library() in libraries


def is_stub_of(folder: Path, server_pid: int) -> bool:
    try:
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        return parent == server_pid and "python_backend_stub" in (folder / "cmdline").read_text()
    except OSError:
        return False


def base_library() -> str:
    ask_it = (
        "import sysconfig as s; print(s.get_config_var('LIBDIR'), s.get_config_var('INSTSONAME'))"
    )
    python = ENVIRONMENT / "bin" / "python"
    done = subprocess.run([python, "-c", ask_it], capture_output=True, text=True, check=True)
    return str(Path(*done.stdout.split()).resolve())
