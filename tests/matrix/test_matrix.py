"""Every provider through a whole site, in every cell: right, or refused for the reason given."""

from collections.abc import Callable

import pytest

from tests.fixtures.summaries import MATRIX
from tests.matrix.asking import outcome_of
from tests.matrix.cells import CELLS, OPERATIONS, Cell, operation_name
from tests.matrix.operating import operated
from tests.matrix.page import expected_of
from tests.matrix.providers import PROVIDERS
from tests.matrix.sites import Place

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
_CHATS = [(cell, mode) for cell in CELLS for mode in cell.has_modes]
_MODES = {True: "stream", False: "whole"}


@pytest.mark.parametrize(
    "place",
    [
        # One process has all of a kind: its sites and its Triton, which comes first because it
        # takes longest, are opened once.
        pytest.param(each, id=each.name, marks=pytest.mark.xdist_group(f"matrix-{each.kind}"))
        for each in sorted(PROVIDERS, key=lambda each: each.kind != "triton")
    ],
    indirect=True,
    scope="module",
)
@pytest.mark.parametrize(
    "asked",
    [*_CHATS, *OPERATIONS],
    ids=[*(f"{cell.name}-{_MODES[mode]}" for cell, mode in _CHATS), *OPERATIONS],
)
async def test_cell_is_right_or_refused_as_the_table_says(
    place: Place,
    asked: tuple[Cell, bool] | str,
    record_property: Callable[[str, object], None],
) -> None:
    name = operation_name(asked) if isinstance(asked, str) else asked[0].name
    found = "failed"
    try:
        if isinstance(asked, str):
            found = await operated(place, asked)
        else:
            cell, is_streaming = asked
            found = await outcome_of(place, cell, is_streaming=is_streaming)
    finally:
        record_property(MATRIX, (place.provider.name, name, found))

    assert expected_of(place.provider, name) == found
