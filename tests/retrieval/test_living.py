"""What is kept of the live slots is what counting them gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentmem.retrieval.living import Living
from agentmem.retrieval.query import NEVER

STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove", "look", "recount"]), st.integers(0, 2**20)), max_size=40)


@given(STEPS)
def test_it_is_what_counting_gives(steps: list[tuple[str, int]]) -> None:
    living, live, expires, lengths = Living(), np.empty(0, np.bool_), np.empty(0, np.int64), np.empty(0, np.float32)
    for what, number in steps:
        random = np.random.default_rng(number)
        if what == "add":
            new = random.choice([NEVER, 5, 7, 9, 11], size=random.integers(0, 4))
            expires, live = np.append(expires, new), np.append(live, np.ones(len(new), np.bool_))
            lengths = np.append(lengths, random.integers(0, 30, len(new)).astype(np.float32))
            living.add(new)
            living.words += int(lengths[len(lengths) - len(new) :].sum())
        elif what == "remove" and live.any():
            slot = random.choice(np.flatnonzero(live))
            living.remove(int(lengths[slot]), int(expires[slot]))
            live[slot] = False
        elif what == "recount":
            living.recount(live, lengths)
        else:
            assert living.first_expiry(live, expires) == expires[live].min(initial=NEVER)
            assert living.dead(live).tolist() == np.flatnonzero(~live).tolist()
        assert living.words == int(lengths[live].sum())
