"""The matrix as a page, `docs/providers.md`: `python -m tests.matrix.page` writes it.

It is made from what the table expects; the tests find the same in a whole site, cell by cell, and
the end of their run shows what they found in the same form.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from tests.house.tree import ROOT
from tests.matrix.cells import CELLS, COLUMNS, OPERATIONS, operation_name
from tests.matrix.providers import CATALOGUE, PROVIDERS, Provider

PAGE: Final = ROOT / "docs" / "providers.md"
OK: Final = "ok"
ESTIMATED: Final = "estimated"
Found = Mapping[tuple[str, str], Collection[str]]
"""Outcomes by provider and cell, those of streams and whole answers together."""

_HEAD: Final = """\
# Providers

Written by `python -m tests.matrix.page`; do not edit. `tests/matrix` asks every provider for every
cell through a whole site (gateway, router, metering, payment), streamed and whole, over fakes that
keep a journal, and Triton over a real server; the run shows this matrix at its end. `ok`: the
answer means what it should, has OpenAI's types, and the upstream's journal, the usage in the
answer, the usage record and the ledger agree to the token. Where an answer breaks or its caller
leaves, the ledger has what the record has, no less than was delivered and no more than was made.
`-` is refused and costs nothing; `~` is answered without, and `X-Turnpike-Ignored` says so;
`ok ~` is charged by an estimate. The numbers are explained below.

"""
_TEXT: Final = "text"
_MARKS: Final = {"refused": "-", "ignored": "~", ESTIMATED: "ok ~"}


def expected_of(provider: Provider, name: str) -> str:
    """Return what the table says of a cell or an operation of a provider."""
    if name in provider.refused:
        return f"refused({provider.refused[name].param})"
    if name in provider.ignored:
        return f"ignored({provider.ignored[name].param})"
    if name in provider.estimated:
        return ESTIMATED
    return OK


def expected() -> Found:
    """Return what the table says of every cell."""
    return {
        (provider.name, name): {expected_of(provider, name)}
        for provider in PROVIDERS
        for name in (*(cell.name for cell in CELLS), *map(operation_name, OPERATIONS))
    }


def page(found: Found) -> str:
    """Return the page."""
    notes = _notes()
    chats = [_row("provider", COLUMNS), _rule(len(COLUMNS))]
    served = ["chat", *OPERATIONS]
    operations = [_row("provider", served), _rule(len(served))]
    for provider in PROVIDERS:
        chats.append(_row(provider.name, _chat_cells(provider, found, notes)))
        names = [_TEXT, *map(operation_name, OPERATIONS)]
        operations.append(
            _row(provider.name, (_shown(provider, [name], found, notes) for name in names))
        )
    lines = [*chats, "", "## Operations", "", *operations, "", "## Why not", ""]
    lines += [f"{number}. {text}" for text, number in notes.items()]
    return _HEAD + "\n".join(lines) + "\n"


def _chat_cells(provider: Provider, found: Found, notes: Mapping[str, int]) -> Iterator[str]:
    for column in COLUMNS:
        names = [cell.name for cell in CELLS if cell.place == column]
        yield _shown(provider, names, found, notes)


def _shown(provider: Provider, names: Iterable[str], found: Found, notes: Mapping[str, int]) -> str:
    """Return a cell of the page; empty when nothing was found, and `?` when it differs in parts."""
    all_names = list(names)
    outcomes = {outcome for name in all_names for outcome in found.get((provider.name, name), ())}
    if len(outcomes) != 1:
        return "?" if outcomes else ""
    (outcome,) = outcomes
    if outcome == OK:
        return OK
    mark = _MARKS.get(outcome.partition("(")[0], "?")
    note = _note(provider, all_names[0])
    return f"{mark} {notes[note]}" if note in notes else f"{mark} {outcome}"


def _note(provider: Provider, name: str) -> str:
    """Return why a cell is not right; empty when it is."""
    if reason := provider.estimated.get(name):
        return f"The tokens are estimated: {reason} charged."
    why = provider.refused.get(name) or provider.ignored.get(name)
    if why is None:
        return ""
    if why.param == CATALOGUE:
        return f"By the catalogue, as it is read: {why.why}."
    return f"By `{why.param}`: {why.why}."


def _notes() -> dict[str, int]:
    found: dict[str, int] = {}
    for provider in PROVIDERS:
        for name in (*(cell.name for cell in CELLS), *map(operation_name, OPERATIONS)):
            if note := _note(provider, name):
                found.setdefault(note, len(found) + 1)
    return found


def _row(name: str, cells: Iterable[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def _rule(count: int) -> str:
    return "|---" * (count + 1) + "|"


if __name__ == "__main__":
    PAGE.write_text(page(expected()))
