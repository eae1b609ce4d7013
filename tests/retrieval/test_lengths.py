"""How long turns are in context is the same, however often it was asked for while they came and went."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.retrieval import conversation
from agentmem.retrieval.conversation import Links

RUNS = [(1, 0, 1), (1, 0, 2), (2, 0, 1)]
STEPS = st.lists(st.tuples(st.sampled_from(["add", "alone", "remove"]), st.integers(0, 2**16)), max_size=60)


@pytest.mark.parametrize("most", [50_000, 3])
@given(STEPS, st.integers(1, 2))
def test_lengths_that_are_kept_are_those_that_are_counted(most: int, steps: list[tuple[str, int]], around: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversation, "_MOST_NOTED", most)
        links, own, rows, run_of = Links(), np.empty(0, np.float32), np.empty(0, np.int64), dict[int, int]()
        dead = set[int]()
        for what, number in steps:
            slot = len(own)
            if what in ("add", "alone"):
                # Rows mostly come in order; what was changed comes back with its old one.
                rows = np.append(rows, number % 50 if number % 3 else 1_000 + slot)
                own = np.append(own, np.float32(number % 11))
                if slot >= len(links.before):
                    links.reserve(2 * slot)
                if what == "add":
                    run_of[slot] = number % len(RUNS)
                    links.add(slot, RUNS[run_of[slot]], rows)
            elif what == "remove" and run_of:
                gone = sorted(run_of)[number % len(run_of)]
                dead.add(gone)
                links.remove(gone, RUNS[run_of.pop(gone)])
            if number % 5:
                there = np.array([each for each in range(len(own)) if each not in dead], np.int64)
                assert links.lengths(own, around)[there].tolist() == links.length_of(there, own, around).tolist()
