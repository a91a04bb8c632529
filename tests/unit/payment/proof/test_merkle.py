"""Merkle trees: the definition of RFC 6962, known roots, and proofs that prove nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from services.payment.proof.merkle import (
    EMPTY_ROOT,
    Proofs,
    leaf_hash,
    node_hash,
    root_by,
    root_of,
)

# Source: the reference tree of the Certificate Transparency project (merkletree tests).
LEAVES = [
    bytes.fromhex(each)
    for each in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}

leaves = st.lists(st.binary(max_size=4), min_size=1, max_size=70)


def defined(data: list[bytes]) -> bytes:
    """Return the root as the RFC defines it."""
    if len(data) == 1:
        return leaf_hash(data[0])
    half = 1
    while 2 * half < len(data):
        half *= 2
    return node_hash(defined(data[:half]), defined(data[half:]))


def test_known_trees_have_their_known_roots() -> None:
    assert ROOTS == {size: root_of(LEAVES[:size]).hex() for size in ROOTS}
    assert "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" == EMPTY_ROOT.hex()
    assert EMPTY_ROOT == root_of([])


@given(leaves)
def test_root_is_the_one_that_is_defined(data: list[bytes]) -> None:
    assert defined(data) == root_of(data)


@given(leaves, st.data())
def test_every_leaf_is_proven_and_nothing_else(data: list[bytes], draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    path, root = Proofs(data).path(index), root_of(data)

    assert root == root_by(data[index], index, len(data), path)
    assert root != root_by(data[index] + b"x", index, len(data), path)
    assert None is root_by(data[index], len(data), len(data), path)
    assert None is root_by(data[index], index, len(data), [*path, b""])
    for at in range(len(path)):
        changed = [*path[:at], bytes(32), *path[at + 1 :]]
        assert root != root_by(data[index], index, len(data), changed)
