"""What everything that follows the records must do. A copy's own test inherits the suite and says how to get at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from agentmem import Memory, Settings
from agentmem.engine.engine import Engine
from agentmem.indexes.feed import follow
from agentmem.stores.folder import FOLLOWER_LOCK
from agentmem.stores.locks import FileLock
from agentmem.types.ports import FeedCopy

IDLE = {"follower_delay_s": 3_600, "follower_group": 100_000}
"""Nothing follows in the background, so that the test does."""


class FeedCopyContract:
    """Inherit it, with ``copy_of``, ``rows_of`` and ``spoil``; everything else comes with it."""

    SETTINGS = Settings(**IDLE)

    def copy_of(self, engine: Engine) -> FeedCopy:
        """The copy of a store that is open."""
        raise NotImplementedError

    def rows_of(self, engine: Engine) -> set[int]:
        """The rows of the user ``ana`` that the copy holds, read by other means than its ``check``."""
        raise NotImplementedError

    def spoil(self, engine: Engine, row: int) -> None:
        """Take a row out of the copy behind its back."""
        raise NotImplementedError

    # -- what a test works with --------------------------------------------------------------------------------------

    @pytest.fixture
    def engine(self, open_memory: Callable[..., Memory]) -> Iterator[Engine]:
        self.memory = open_memory(settings=self.SETTINGS)
        engine = self.memory.handle.engine()
        # An erase wakes what follows in the background; with this it finds that somebody else is at work.
        lock = FileLock(engine.path / FOLLOWER_LOCK)
        assert lock.acquire(10)
        yield engine
        lock.close()

    def follow(self, engine: Engine) -> FeedCopy:
        copy = self.copy_of(engine)
        assert follow(copy, engine.repository, engine.repository.last_seq())
        return copy

    def add(self, count: int) -> list[str]:
        texts = [f"harbour number {n} has {'lantern ' * (n % 3)}lights" for n in range(count)]
        return [one.id for one in self.memory.add_many(texts, user_id="ana")]

    def live(self, engine: Engine) -> set[int]:
        return set(engine.repository.rows_between("r.state = 0", (), 0, engine.repository.last_row()))

    def check(self, engine: Engine, copy: FeedCopy) -> None:
        assert copy.applied_seq() == engine.repository.last_seq()
        assert copy.check() == []
        assert self.rows_of(engine) == self.live(engine)

    # -- the contract ------------------------------------------------------------------------------------------------

    def test_it_has_a_name_and_takes_a_group_at_a_time(self, engine: Engine) -> None:
        copy = self.copy_of(engine)
        assert copy.name
        assert copy.name == copy.name.lower()
        assert copy.group >= 1

    def test_it_follows_every_kind_of_change(self, engine: Engine) -> None:
        ids = self.add(12)
        self.check(engine, self.follow(engine))
        self.memory.update(ids[0], content="a windmill on the hill")
        self.memory.delete(ids[1])
        self.memory.delete(ids[2])
        self.memory.restore(ids[2])
        self.memory.erase(ids[3])
        self.memory.add("a lighthouse", user_id="ana")
        self.check(engine, self.follow(engine))

    def test_it_goes_on_where_it_was(self, engine: Engine) -> None:
        self.add(9)
        copy = self.copy_of(engine)
        after = copy.applied_seq()
        events = engine.repository.events_after(after, 4)
        copy.apply(events, after)
        assert copy.applied_seq() == events[-1].seq
        self.check(engine, self.follow(engine))

    def test_events_that_it_has_already_do_no_harm(self, engine: Engine) -> None:
        ids = self.add(6)
        before = self.copy_of(engine).applied_seq()
        events = engine.repository.events_after(before, 100)
        copy = self.follow(engine)
        self.memory.delete(ids[4])
        self.follow(engine)
        copy.apply(events, before)
        self.follow(engine)
        self.check(engine, copy)

    def test_an_apply_that_comes_too_late_does_not_move_it(self, engine: Engine) -> None:
        self.add(4)
        copy = self.follow(engine)
        self.memory.add("a lighthouse", user_id="ana")
        seq = copy.applied_seq()
        self.memory.add("a windmill", user_id="ana")
        late = engine.repository.events_after(seq + 1, 100)
        copy.apply(late, seq + 1)  # the event before is missing
        assert copy.applied_seq() in (seq, late[-1].seq)
        if copy.applied_seq() == late[-1].seq:
            pytest.fail("an event was skipped")
        self.check(engine, self.follow(engine))

    def test_what_it_lacks_is_found_and_comes_back(self, engine: Engine) -> None:
        self.add(8)
        copy = self.follow(engine)
        self.rows_of(engine)
        self.spoil(engine, min(self.live(engine)))
        problems = copy.check()
        assert problems
        assert all(problem.startswith(f"{copy.name}:") for problem in problems)
        copy.reset()
        self.check(engine, self.follow(engine))

    def test_it_can_be_made_anew_at_any_time(self, engine: Engine) -> None:
        copy = self.copy_of(engine)
        copy.reset()
        self.check(engine, self.follow(engine))
        ids = self.add(5)
        copy.reset()
        self.memory.delete(ids[0])
        self.check(engine, self.follow(engine))

    def test_stopping_the_loop_leaves_it_behind_and_right(self, engine: Engine) -> None:
        self.add(5)
        copy = self.copy_of(engine)
        before = copy.applied_seq()
        if before < engine.repository.last_seq():
            assert not follow(copy, engine.repository, engine.repository.last_seq(), lambda: False)
            assert copy.applied_seq() == before
        self.check(engine, self.follow(engine))
