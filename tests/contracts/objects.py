"""What every home of objects must do. A backend's own test inherits the suite and says how to open it."""

from __future__ import annotations

import os
import pickle
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from archive.faulty import Faulty

from agentmem.archive.objects import Objects
from agentmem.archive.retries import Retries
from agentmem.types.errors import (
    ArchiveAccessError,
    ArchiveCorruptError,
    ArchiveError,
    ArchiveUnavailableError,
    InvalidInputError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
)

PART = 8 * 2**20


class ObjectsContract:
    """Inherit it, with the fixture ``opened``; everything else comes with it."""

    @pytest.fixture
    def opened(self) -> Callable[[], Objects]:
        """Opens the objects of an empty place, each time anew."""
        raise NotImplementedError

    @pytest.fixture
    def objects(self, opened: Callable[[], Objects]) -> Objects:
        return opened()

    @pytest.fixture
    def other(self, opened: Callable[[], Objects]) -> Objects:
        """As another process would have them."""
        return opened()

    def keys(self, objects: Objects, folder: str = "") -> list[str]:
        return sorted(found.key for found in objects.list(folder))

    # -- writing once ----------------------------------------------------------------------------------------------

    def test_what_was_created_is_there_for_everybody(self, objects: Objects, other: Objects) -> None:
        data = secrets.token_bytes(3_000)
        stamp = objects.create("a/b.c", data)
        assert other.get("a/b.c") == (data, stamp)
        found = other.head("a/b.c")
        assert (found.key, found.size) == ("a/b.c", 3_000)
        assert found.modified > 1_600_000_000_000_000

    @pytest.mark.parametrize("data", [b"", b"\0", b"0" * (PART + 1)], ids=["empty", "zero", "large"])
    def test_any_bytes(self, objects: Objects, data: bytes) -> None:
        objects.create("any", data)
        assert objects.get("any").data == data
        assert objects.head("any").size == len(data)

    def test_nothing_is_written_twice(self, objects: Objects, other: Objects) -> None:
        stamp = objects.create("once", b"first")
        for again in (objects, other):
            for data in (b"second", b"first"):
                with pytest.raises(ObjectExistsError, match="once"):
                    again.create("once", data)
        assert objects.get("once") == (b"first", stamp)

    def test_of_many_creators_one_succeeds(self, opened: Callable[[], Objects]) -> None:
        homes = [opened() for _ in range(4)]
        for round in range(3):
            runs = [partial(home.create, f"race/{round}", b"%d" % n) for n, home in enumerate(homes * 2)]
            won = self.race(runs)
            assert len(won) == 1
            assert homes[0].get(f"race/{round}").data == b"%d" % won[0]

    def race(self, runs: list[Callable[[], object]]) -> list[int]:
        """Who succeeded; the rest were refused."""
        barrier, won, other = threading.Barrier(len(runs)), list[int](), list[BaseException]()

        def run(number: int) -> None:
            barrier.wait()
            try:
                runs[number]()
                won.append(number)
            except (ObjectExistsError, ObjectChangedError):
                pass
            except BaseException as exc:
                other.append(exc)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(runs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert other == []
        return won

    # -- swapping --------------------------------------------------------------------------------------------------

    def test_swap_replaces_what_was_read(self, objects: Objects, other: Objects) -> None:
        first = objects.create("head", b"1")
        second = other.swap("head", b"2", first)
        assert second != first
        assert objects.get("head") == (b"2", second)
        with pytest.raises(ObjectChangedError, match="head"):
            objects.swap("head", b"3", first)
        assert objects.get("head") == (b"2", second)
        objects.swap("head", b"3", second)
        assert other.get("head").data == b"3"

    def test_what_is_gone_is_not_swapped(self, objects: Objects) -> None:
        stamp = objects.create("head", b"1")
        objects.delete("head")
        with pytest.raises(ObjectChangedError):
            objects.swap("head", b"2", stamp)
        assert self.keys(objects) == []

    def test_of_many_swaps_one_succeeds(self, opened: Callable[[], Objects]) -> None:
        homes = [opened() for _ in range(4)]
        stamp = homes[0].create("head", b"start")
        for round in range(3):
            won = self.race([partial(home.swap, "head", b"%d.%d" % (round, n), stamp) for n, home in enumerate(homes)])
            assert len(won) == 1
            data, stamp = homes[0].get("head")
            assert data == b"%d.%d" % (round, won[0])

    # -- in parts --------------------------------------------------------------------------------------------------

    def test_upload(self, objects: Objects, other: Objects) -> None:
        chunks = [secrets.token_bytes(size) for size in (3, PART, 0, PART - 1, 70_000)]
        found = objects.upload("parts/large", iter(chunks))
        assert found == other.head("parts/large")
        assert other.get("parts/large").data == b"".join(chunks)
        with pytest.raises(ObjectExistsError, match="parts/large"):
            other.upload("parts/large", [b"again"])
        with pytest.raises(ObjectExistsError):
            other.create("parts/large", b"again")
        assert objects.upload("parts/empty", []).size == 0
        assert objects.upload("parts/small", [b"x"]).size == 1

    def test_an_upload_that_breaks_off_leaves_nothing(self, objects: Objects) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"x" * (PART + 1)
            assert self.keys(objects) == []
            yield b"y" * (PART + 1)
            raise ZeroDivisionError("the source has failed")

        with pytest.raises(ZeroDivisionError):
            objects.upload("parts/broken", chunks())
        assert self.keys(objects) == []
        objects.upload("parts/broken", [b"whole"])
        assert objects.get("parts/broken").data == b"whole"

    # -- reading ---------------------------------------------------------------------------------------------------

    def test_ranges_are_exact(self, objects: Objects) -> None:
        data = secrets.token_bytes(1_000)
        objects.create("ranged", data)
        for start, length in ((0, 1), (0, 1_000), (999, 1), (17, 400), (5, 0), (1_000, 0)):
            assert objects.read("ranged", start, length) == data[start : start + length]
        for start, length in ((0, 1_001), (999, 2), (1_000, 1), (5_000, 3)):
            with pytest.raises(ArchiveCorruptError, match="ranged"):
                objects.read("ranged", start, length)
        for start, length in ((-1, 2), (0, -1)):
            with pytest.raises(InvalidInputError):
                objects.read("ranged", start, length)

    def test_what_is_missing(self, objects: Objects) -> None:
        objects.create("folder/key", b"1")
        for key in ("missing", "folder", "folder/key.2", "folder/missing/deeper"):
            for call in (
                objects.get,
                objects.head,
                lambda key: objects.read(key, 0, 1),
                lambda key: objects.read(key, 0, 0),
            ):
                with pytest.raises(ObjectNotFoundError, match=key):
                    call(key)
            with pytest.raises(LookupError):
                objects.get(key)

    def test_lists_go_by_folder(self, objects: Objects, other: Objects) -> None:
        assert self.keys(objects) == self.keys(objects, "nothing/here") == []
        keys = ["a", "b/1", "b/2", "b/c/3", "b-x/4", "bb", "z.1/k=v"]
        for key in keys:
            objects.create(key, key.encode())
        assert self.keys(other) == sorted(keys)
        assert self.keys(other, "b") == ["b/1", "b/2", "b/c/3"]
        assert self.keys(other, "b/c") == ["b/c/3"]
        assert self.keys(other, "z.1") == ["z.1/k=v"]
        for found in other.list("b"):
            assert found.size == objects.head(found.key).size == len(found.key)
            assert abs(found.modified - objects.head(found.key).modified) < 1_000_000

    def test_a_long_list(self, objects: Objects) -> None:
        keys = sorted(f"many/{number:04}" for number in range(1_050))
        lines = [
            threading.Thread(target=lambda part: [objects.create(key, b"") for key in part], args=(keys[n::8],))
            for n in range(8)
        ]
        for line in lines:
            line.start()
        for line in lines:
            line.join()
        assert self.keys(objects, "many") == keys

    def test_deleting(self, objects: Objects, other: Objects) -> None:
        objects.create("a/b", b"1")
        objects.create("a/c", b"1")
        objects.delete("a/b")
        objects.delete("a/b")
        objects.delete("a")
        objects.delete("never/was")
        assert self.keys(other) == ["a/c"]
        other.create("a/b", b"2")
        assert objects.get("a/b").data == b"2"

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            ".a",
            "a/.b",
            "A",
            "a b",
            "a\n",
            "ä",
            "-a",
            "a\\b",
            "a" * 501,
            "a?b",
        ],
    )
    def test_what_is_no_key(self, objects: Objects, key: str) -> None:
        for call in (
            lambda: objects.create(key, b""),
            lambda: objects.swap(key, b"", "stamp"),
            lambda: objects.upload(key, []),
            lambda: objects.get(key),
            lambda: objects.read(key, 0, 0),
            lambda: objects.head(key),
            lambda: objects.delete(key),
            lambda: list(objects.list(key or "/")),
        ):
            with pytest.raises(InvalidInputError, match="key"):
                call()

    def test_versions_are_not_kept_here(self, objects: Objects) -> None:
        assert not objects.keeps_versions()
        assert self.keys(objects) == []

    def test_the_url_is_known(self, objects: Objects) -> None:
        assert objects.url
        with pytest.raises(ObjectNotFoundError) as caught:
            objects.get("missing")
        assert objects.url in str(caught.value)


class BucketContract(ObjectsContract):
    """What a bucket must do besides, when the network does not. Inherit it, with ``opened``, ``proxy``, ``broken``."""

    @pytest.fixture
    def proxy(self) -> Faulty:
        """What stands between ``broken`` and the bucket."""
        raise NotImplementedError

    @pytest.fixture
    def broken(self, proxy: Faulty) -> Callable[..., Objects]:
        """Opens the same place through the proxy; takes ``retries``."""
        raise NotImplementedError

    @pytest.fixture
    def pauses(self) -> list[float]:
        return []

    @pytest.fixture
    def far(self, broken: Callable[..., Objects], proxy: Faulty, pauses: list[float]) -> Objects:
        """The place through the proxy; every pause is written down instead of waited for."""
        objects = broken(Retries(sleep=pauses.append))
        objects.delete(objects.create("probed", b"") and "probed")
        proxy.requests.clear()
        return objects

    def test_a_bucket_is_tried_out_before_the_first_write(self, broken: Callable[..., Objects], proxy: Faulty) -> None:
        objects = broken()
        assert self.keys(objects) == []
        assert not [line for line in proxy.requests if line.startswith("PUT")]
        objects.create("a", b"")
        tried = [line for line in proxy.requests if line.startswith("PUT")]
        assert len(tried) == 5
        objects.create("b", b"")
        assert len([line for line in proxy.requests if line.startswith("PUT")]) == 6
        assert self.keys(objects) == ["a", "b"]

    @pytest.mark.parametrize("fault", ["503", "429", "500", "unsent", "unanswered"])
    def test_writes_are_tried_again_and_known_as_ones_own(
        self, far: Objects, other: Objects, proxy: Faulty, pauses: list[float], fault: str
    ) -> None:
        proxy.faults["PUT"] = [fault] * 3
        stamp = far.create("a/b", b"1")
        assert pauses == [0, 1, 2]
        assert other.get("a/b") == (b"1", stamp)
        proxy.faults["PUT"] = [fault]
        stamp = far.swap("a/b", b"2", stamp)
        assert other.get("a/b") == (b"2", stamp)
        proxy.faults["DELETE"] = [fault]
        far.delete("a/b")
        assert self.keys(other) == []

    def test_a_lost_answer_hides_no_conflict(self, far: Objects, other: Objects, proxy: Faulty) -> None:
        stamp = other.create("a", b"1")
        proxy.faults["PUT"] = ["unanswered"]
        with pytest.raises(ObjectExistsError):
            far.create("a", b"1")
        other.swap("a", b"2", stamp)
        proxy.faults["PUT"] = ["unanswered"]
        with pytest.raises(ObjectChangedError):
            far.swap("a", b"3", stamp)
        assert other.get("a").data == b"2"

    @pytest.mark.parametrize("fault", ["503", "429", "unsent", "unanswered", "cut"])
    def test_reads_are_tried_again(self, far: Objects, proxy: Faulty, pauses: list[float], fault: str) -> None:
        data = secrets.token_bytes(40_000)
        far.create("a/b", data)
        for call in (lambda: far.get("a/b").data, lambda: far.read("a/b", 0, 40_000)):
            pauses.clear()
            proxy.faults["GET"] = [fault] * 4
            assert call() == data
            assert pauses == [0, 1, 2, 4]
        proxy.faults["GET"] = [fault]
        assert [found.key for found in far.list()] == ["a/b"]
        proxy.faults["HEAD"] = ["503" if fault == "cut" else fault]
        assert far.head("a/b").size == 40_000

    def test_an_answer_of_another_length_is_not_taken(self, far: Objects, proxy: Faulty, pauses: list[float]) -> None:
        far.create("a", b"0123456789")
        proxy.faults["GET"] = ["short"]
        assert far.read("a", 2, 6) == b"234567"
        assert pauses

    def test_what_stays_away_is_an_error_after_ten_attempts(
        self, far: Objects, proxy: Faulty, pauses: list[float]
    ) -> None:
        far.create("a", b"1")
        for call, method in (
            (lambda: far.create("b", b""), "PUT"),
            (lambda: far.get("a"), "GET"),
            (lambda: far.read("a", 0, 1), "GET"),
            (lambda: list(far.list()), "GET"),
            (lambda: far.delete("a"), "DELETE"),
        ):
            pauses.clear()
            proxy.faults[method] = ["503"] * 10
            proxy.faults["POST"] = ["503"] * 10
            with pytest.raises(ArchiveUnavailableError, match="10 attempts"):
                call()
            assert pauses == [0, 1, 2, 4, 8, 16, 32, 64, 128]
            proxy.faults.clear()
        assert self.keys(far) == ["a"]

    def test_no_network(self, far: Objects, proxy: Faulty, pauses: list[float]) -> None:
        proxy.close()
        for call in (lambda: far.create("b", b""), lambda: far.get("a"), lambda: list(far.list())):
            with pytest.raises(ArchiveUnavailableError, match="10 attempts"):
                call()

    @pytest.mark.parametrize("status", ["400", "401", "403", "501"])
    def test_what_will_not_change_is_not_tried_again(
        self, far: Objects, proxy: Faulty, pauses: list[float], status: str
    ) -> None:
        proxy.faults["PUT"] = [status]
        with pytest.raises(ArchiveAccessError if status in ("401", "403") else ArchiveError) as caught:
            far.create("a", b"1")
        assert not isinstance(caught.value, ArchiveUnavailableError)
        assert pauses == []

    @pytest.mark.parametrize("fault", ["503", "unsent"])
    def test_an_upload_that_breaks_off_half_way(
        self, broken: Callable[..., Objects], proxy: Faulty, fault: str
    ) -> None:
        objects = broken(Retries(1))
        objects.create("first", b"")
        proxy.faults["PUT"] = ["pass", fault]
        with pytest.raises(ArchiveUnavailableError):
            objects.upload("large", (b"x" * PART for _ in range(3)))
        proxy.faults.clear()
        assert self.keys(objects) == ["first"]
        assert objects.upload("large", [b"x" * PART] * 2).size == 2 * PART

    def test_a_forked_child_is_told(self, objects: Objects) -> None:
        objects.create("a", b"1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads, in a child that uses none
            child = os.fork()
        if not child:
            try:
                objects.get("a")
            except ArchiveError as exc:
                os._exit(7 if "spawn" in str(exc) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert objects.get("a").data == b"1"

    def test_credentials_are_not_pickled(self, objects: Objects) -> None:
        with pytest.raises(TypeError, match="credentials"):
            pickle.dumps(objects)
