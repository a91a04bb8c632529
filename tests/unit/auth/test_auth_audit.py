"""The audit chain breaks where it is touched."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.auth.audit import GENESIS, Entry, facts_json, first_break


def chain(count: int) -> list[Entry]:
    entries: list[Entry] = []
    for seq in range(1, count + 1):
        previous = entries[-1].entry_hash if entries else GENESIS
        after = facts_json({"n": seq, "a": "é"})
        entries.append(Entry(seq, "key.create", f"key-{seq}", 1000 + seq, "", after, previous))
    return entries


@given(st.integers(0, 6))
def test_untouched_chain_holds(count: int) -> None:
    assert first_break(chain(count)) is None


@given(st.integers(0, 4), st.sampled_from(["action", "subject_id", "before", "after"]))
def test_changed_entry_is_noticed_at_the_next_one(position: int, field: str) -> None:
    entries = chain(6)

    entries[position] = replace(entries[position], **{field: "forged"})  # type: ignore[arg-type]

    assert position + 2 == first_break(entries)


@given(st.integers(0, 4))
def test_missing_entry_is_noticed(position: int) -> None:
    entries = chain(6)

    del entries[position]

    assert position + 1 == first_break(entries)


def test_facts_are_one_text_whatever_their_order() -> None:
    assert '{"a":1,"b":[2]}' == facts_json({"b": [2], "a": 1})
    assert "" == facts_json(None)
