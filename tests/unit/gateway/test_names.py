"""What names mean, in which order, and what stands behind a prefix."""

import pytest

from gateway.names import function_of, meanings, plain_name
from kit.errors import Reason, TurnpikeError
from turnpike.router.v1 import router_pb2


def place(name: str, provider: str, upstream: str, *adapters: str) -> router_pb2.Place:
    return router_pb2.Place(
        deployment=name, provider=provider, upstream_model=upstream, adapters=adapters
    )


def model(
    model_id: str, *places: router_pb2.Place, aliases: tuple[str, ...] = ()
) -> router_pb2.Model:
    return router_pb2.Model(model_id=model_id, places=places, aliases=aliases)


ONE = model(
    "acme/one",
    place("one-gpu", "gpu", "m1", "law", "shared"),
    place("one-spare", "gpu", "m1"),
    place("two", "cloud", "one-large"),
    aliases=("one", "qwen3-4b"),
)
TWO = model("two", place("two-gpu", "gpu", "m2", "shared"))
FOUND = meanings([(ONE, "ONE"), (TWO, "TWO")])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        pytest.param("acme/one", ("ONE", (), ""), id="E11-id"),
        pytest.param("qwen3-4b", ("ONE", (), ""), id="E11-alias"),
        pytest.param("one-spare", ("ONE", ("one-spare",), ""), id="E12-deployment"),
        pytest.param("two", ("TWO", (), ""), id="E12-an-id-wins-over-a-deployment"),
        pytest.param("one:law", ("ONE", (), "law"), id="E12-adapter-of-an-alias"),
        pytest.param("law", ("ONE", (), "law"), id="E12-adapter-alone"),
        pytest.param("two:shared", ("TWO", (), "shared"), id="E12-adapter-of-a-model"),
        pytest.param("gpu/m1", ("ONE", ("one-gpu", "one-spare"), ""), id="E12-provider"),
        pytest.param("cloud/acme/one", ("ONE", ("two",), ""), id="E12-provider-with-our-id"),
    ],
)
def test_first_meaning_of_a_name_wins(name: str, meant: tuple[str, tuple[str, ...], str]) -> None:
    assert meant == tuple(FOUND[name])


@pytest.mark.parametrize("name", ["shared", "ACME/one", "one:", ":law", "gpu/", "gpu/none"])
def test_what_means_nothing_or_two_things_is_unknown(name: str) -> None:
    assert name not in FOUND


@pytest.mark.parametrize("prefix", ["tensorzero::", "turnpike::"])
@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("model_name::one", "one"),
        ("model_name::gpu::m1", "gpu/m1"),
        ("function_name::draft", "acme/one"),
        ("deployment_name::x", None),
    ],
    ids=["E13-model", "E13-provider-and-model", "E13-function", "E13-something-else"],
)
def test_prefix_says_what_is_meant(prefix: str, name: str, plain: str | None) -> None:
    meant = plain_name(prefix + name, {"draft": "acme/one"})

    assert (plain or prefix + name) == meant


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("turnpike::function_name::", Reason.INVALID_VALUE),
        ("turnpike::model_name::", Reason.INVALID_VALUE),
        ("turnpike::model_name::gpu::", Reason.INVALID_VALUE),
        ("tensorzero::function_name::none", Reason.FUNCTION_NOT_FOUND),
    ],
)
def test_prefix_without_a_name_is_refused(name: str, reason: Reason) -> None:
    with pytest.raises(TurnpikeError) as caught:
        plain_name(name, {})

    assert (reason, "model") == (caught.value.reason, caught.value.metadata["param"])


def test_only_a_prefixed_name_is_a_function() -> None:
    assert ["x", "x::y", None, None] == [
        function_of("tensorzero::function_name::x"),
        function_of("turnpike::function_name::x::y"),
        function_of("function_name::x"),
        function_of("turnpike::model_name::x"),
    ]
