"""However many problems there are, the list of them stays short and says how many are left out."""

from __future__ import annotations

from agentmem.types.problems import SHOWN, Problems


def test_a_few_are_listed_as_they_are() -> None:
    problems = Problems(["record 'a': its text is gone", "lancedb: row 7 is missing"])
    assert problems
    assert problems.listed() == ["record 'a': its text is gone", "lancedb: row 7 is missing"]


def test_many_of_one_kind_do_not_hide_another() -> None:
    problems = Problems(f"record {n}: its text is gone" for n in range(SHOWN + 1_234))
    problems.add("libsql: a page is torn")
    listed = problems.listed()
    assert len(listed) == SHOWN + 2
    assert listed[SHOWN] == "libsql: a page is torn"
    assert listed[-1] == "record: and 1,234 more"


def test_none_are_none() -> None:
    assert not Problems()
    assert Problems().listed() == []
