"""What a killed process had acknowledged, and the comparison of the reopened store with it."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentmem import ALL, Memory, MemoryRecord, NotFoundError
from stress.victim import KEYED, data_of, text_of

SAMPLE = 40
HISTORIES = 300
MOVES = ("ARCHIVE", "REHYDRATE")
"""Events that change nothing of what a record says."""


@dataclass(slots=True)
class Known:
    """An acknowledged record as it must be."""

    user: str
    text: str
    events: list[str]
    version: int = 1
    live: bool = True
    gone: bool = False
    """Erased with its user: not even its history is left."""

    def leave(self) -> None:
        self.text, self.live, self.gone = "", False, True

    def change(self, event: str, text: str | None = None) -> None:
        self.events.append(event)
        self.version += 1
        self.live = event in ("UPDATE", "RESTORE", "PROMOTE")
        self.text = self.text if text is None else text


@dataclass
class Found:
    """Every count must be 0 except ``acknowledged``; ``problems`` says what was wrong, the first few."""

    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    ghosts: int = 0
    resurrected: int = 0
    altered: int = 0
    half: int = 0
    missed: int = 0
    errors: int = 0
    unclean: int = 0
    problems: list[str] = field(default_factory=list)

    def wrong(self, kind: str, what: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.problems) < 20:
            self.problems.append(f"{kind}: {what}")

    def merge(self, other: Found) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def ok(self) -> bool:
        return not any(value for name, value in vars(self).items() if name != "acknowledged")


class Aftermath:
    """Follows the child's lines over all trials on one store."""

    def __init__(self) -> None:
        self.records: dict[str, Known] = {}
        self.touched: set[str] = set()
        self.swept: set[str] = set()
        self.left: set[str] = set()
        """Users who were erased in this trial."""
        self.keyed: dict[str, tuple[int, int, int]] = {}
        """Of each key the operation that last put it, which item of that it is, and its version."""
        self.begun: dict[int, dict[str, Any]] = {}
        self.talks = 0
        """How many children talked."""
        self.backed_up = 0
        """The last event that an acknowledged backup has."""
        self.found = Found()

    def hear(self, line: dict[str, Any]) -> None:
        """Take in one line of the child."""
        if "error" in line:
            self.found.wrong("errors", f"operation {line['n']}: {line['error']}")
        elif "do" in line:
            self.begun[line["n"]] = line
        elif "ok" in line:
            self.found.acknowledged += 1
            self._acknowledged(self.begun.pop(line["n"]), line)

    def _acknowledged(self, op: dict[str, Any], ack: dict[str, Any]) -> None:
        if op["do"] == "add":
            if len(ack["ids"]) != op["size"]:
                self.found.wrong("half", f"operation {op['n']} was acknowledged with {len(ack['ids'])} records")
            for item, id in enumerate(ack["ids"]):
                self.records[id] = Known(op["user"], text_of(op["n"], item), ["ADD"])
            self.touched |= set(ack["ids"])
        elif op["do"] == "sweep":
            self.swept |= self._waiting()
        elif op["do"] in ("put", "apply"):
            self._put(op)
            versions = [self.keyed[key][2] for key in op["keys"]]
            if ack["versions"] != versions:
                self.found.wrong("altered", f"{op} led to {ack}, expected versions {versions}")
        elif op["do"] == "erase_all":
            self._leave(op["user"])
        elif op["do"] == "backup":
            self.backed_up = max(self.backed_up, ack["seq"])
        elif op["do"] != "reembed":
            if ack.get("status", "refreshed") != "refreshed":
                self.found.wrong("altered", f"{op} was acknowledged with {ack}")
            self._change(op)
            known = self.records[op["id"]]
            if ack.get("version", known.version) != known.version:
                self.found.wrong("altered", f"{op} led to {ack}, expected version {known.version}")

    def _put(self, op: dict[str, Any]) -> None:
        for item, key in enumerate(op["keys"]):
            self.keyed[key] = (op["n"], item, 1 + self.keyed.get(key, (0, 0, 0))[2])

    def _change(self, op: dict[str, Any]) -> None:
        self.touched.add(op["id"])
        text = text_of(op["n"], 0, 1) if op["do"] == "update" else "" if op["do"] == "erase" else None
        self.records[op["id"]].change("UPDATE" if op["do"] == "repeat" else op["do"].upper(), text)

    def _leave(self, user: str) -> None:
        for id, known in self.records.items():
            if known.user == user:
                known.leave()
                self.touched.add(id)
        self.left.add(user)

    def _waiting(self) -> set[str]:
        """What a sweep moves."""
        return {id for id, known in self.records.items() if known.user == "sweep" and known.events == ["ADD"]}

    def _follow(self, memory: Memory, ids: set[str], must: bool) -> None:
        """Each moved with its event, or as it was; that the record agrees with the event is checked after this."""
        for id in ids:
            events = [event.event.value for event in memory.history(id)]
            if len(events) == 2 and events[1] in ("PROMOTE", "EXPIRE"):
                self.touched.add(id)
                self.records[id].change(events[1])
            elif must or len(events) > 1:
                self.found.wrong("half", f"swept {id} has the events {events}")

    # -- after the kill ----------------------------------------------------------------------------------------------

    def check_truth(self, memory: Memory) -> None:
        """Compare everything that is readable with what was acknowledged; adopt what was whole without it."""
        seen: dict[str, MemoryRecord] = {}
        for record in memory.iterate(user_id=ALL, order="oldest"):
            if record.id in seen:
                self.found.wrong("duplicated", f"id {record.id} was read twice")
            seen[record.id] = record
            if not _has_its_data(record):
                self.found.wrong("altered", f"{record.id} has the data {str(record.data)[:80]}")
        self._check_keyed(memory)
        self._resolve(memory, seen)
        texts = Counter((record.user_id, record.content) for record in seen.values())
        for (user, text), count in texts.items():
            if count > 1:
                self.found.wrong("duplicated", f"{text!r} of {user} is there {count} times")
        for id, known in self.records.items():
            record = seen.pop(id, None)
            if record is None and known.live:
                self.found.wrong("lost", f"{id} {known.text!r} of {known.user}")
            elif record is not None and not known.live:
                self.found.wrong("resurrected", f"{id} {record.content!r} of {known.user}")
            elif record is not None and (record.content, record.user_id, record.version) != (
                known.text, known.user, known.version,
            ):  # fmt: skip
                self.found.wrong("altered", f"{id} is {record}, expected {known}")
        for record in seen.values():
            self.found.wrong("ghosts", f"{record.id} {record.content!r} of {record.user_id}")
        self._check_touched(memory)

    def _check_keyed(self, memory: Memory) -> None:
        """All that one transaction put is there, or nothing of it; each key once, at the version of its last put."""
        found = list(memory.iterate(**KEYED))
        there = {str(record.key): record for record in found}
        if len(there) != len(found):
            self.found.wrong("duplicated", f"a key is there twice: {[record.key for record in found]}")
        for n in [n for n, op in self.begun.items() if op["do"] in ("put", "apply")]:
            op = self.begun.pop(n)
            made = [key in there and there[key].metadata["n"] == n for key in op["keys"]]
            if any(made) and not all(made):
                self.found.wrong("half", f"{op} was made in part: {made}")
            if any(made):
                self._put(op)
        for key, (n, item, version) in self.keyed.items():
            record = there.pop(key, None)
            if record is None or (record.content, record.version) != (text_of(n, item), version):
                kind = "lost" if record is None else "altered"
                self.found.wrong(kind, f"{key!r} is {record}, expected {text_of(n, item)!r} at version {version}")
        for record in there.values():
            self.found.wrong("ghosts", f"the key {record.key!r} has {record.content!r}")

    def _resolve(self, memory: Memory, seen: dict[str, MemoryRecord]) -> None:
        """Whole or absent: what each operation without acknowledgement left."""
        self._follow(memory, self.swept, must=True)
        self.swept.clear()
        fresh: dict[int, list[MemoryRecord]] = {}
        for record in seen.values():
            if record.id not in self.records and "op" in record.metadata:
                fresh.setdefault(record.metadata["op"][0], []).append(record)
        for n, op in self.begun.items():
            if op["do"] == "add":
                there = fresh.get(n, [])
                if len(there) not in (0, op["size"]):
                    self.found.wrong("half", f"operation {n}: {len(there)} of {op['size']} records are there")
                for record in there:
                    item = record.metadata["op"][1]
                    self.records[record.id] = Known(op["user"], text_of(n, item), ["ADD"])
                    self.touched.add(record.id)
            elif op["do"] == "sweep":
                self._follow(memory, self._waiting(), must=False)
            elif op["do"] == "erase_all":
                ids = {id for id, known in self.records.items() if known.user == op["user"]}
                if len(ids & seen.keys()) not in (0, len(ids)):
                    self.found.wrong(
                        "half", f"{len(ids & seen.keys())} of the {len(ids)} records of {op['user']} are there"
                    )
                if not ids & seen.keys():
                    self._leave(op["user"])
            elif op["do"] not in ("reembed", "backup"):
                events = memory.history(op["id"])
                if events[-1].version == self.records[op["id"]].version + 1:
                    self._change(op)
                self.touched.add(op["id"])
        self.begun.clear()

    def _check_touched(self, memory: Memory) -> None:
        for id in self.touched:
            record, known = memory.get(id), self.records[id]
            if record is None and known.live:
                self.found.wrong("lost", f"get({id})")
            elif record is not None and not known.live:
                self.found.wrong("resurrected", f"get({id})")
        self._check_left(memory)
        left = [id for id in self.touched if self.records[id].gone]
        for id in left[:HISTORIES]:
            with suppress(NotFoundError):
                self.found.wrong("resurrected", f"history({id}) is {memory.history(id)}")
        self.touched.difference_update(left)
        changed = [id for id in self.touched if len(self.records[id].events) > 1]
        rest = [id for id in self.touched if len(self.records[id].events) == 1]
        for id in [*changed, *rest][:HISTORIES]:
            try:
                events = memory.history(id)
            except NotFoundError:
                self.found.wrong("lost", f"history({id})")
                continue
            if [one.event.value for one in events if one.event.value not in MOVES] != self.records[id].events:
                self.found.wrong("altered", f"history({id}) is {events}, expected {self.records[id].events}")

    def _check_left(self, memory: Memory) -> None:
        """One line for each user who left."""
        for user in self.left:
            count = sum(known.user == user for known in self.records.values())
            lines = [line.records for line in memory.erasures(user_id=user)]
            if lines != [count]:
                self.found.wrong("lost", f"{user} had {count} records, and what says so is {lines}")

    def check_nothing_left(self, memory: Memory, path: Path) -> None:
        """No file tells of those who left."""
        if not self.left:
            return
        memory.compact()
        for file in path.rglob("*"):
            data = file.read_bytes() if file.is_file() else b""
            for user in self.left:
                if user.encode() in data:
                    self.found.wrong("resurrected", f"{user} is still in {file}")
        self.left.clear()

    def check_search(self, memory: Memory, pick: random.Random) -> None:
        """What was acknowledged is found first by its own text, what was deleted is not found at all."""
        ids = sorted(self.touched) or sorted(self.records)
        live = [id for id in ids if self.records[id].live]
        gone = [id for id in ids if not self.records[id].live and self.records[id].text]
        for id in pick.sample(live, min(SAMPLE, len(live))):
            known = self.records[id]
            for mode in ("vector", "keyword", "hybrid"):
                hits = memory.search(known.text, user_id=known.user, mode=mode, limit=3)
                if not hits or hits[0].id != id:
                    self.found.wrong("missed", f"{mode} search for {known.text!r} of {known.user}, {id}")
                if any(hit.record.user_id != known.user for hit in hits):
                    self.found.wrong("ghosts", f"{mode} search of {known.user} found another's")
        for id in pick.sample(gone, min(SAMPLE, len(gone))):
            known = self.records[id]
            for mode in ("vector", "keyword", "hybrid"):
                if any(hit.id == id for hit in memory.search(known.text, user_id=known.user, mode=mode, limit=3)):
                    self.found.wrong("resurrected", f"{mode} search for {known.text!r}, {id}")

    def check_stores(self, memory: Memory) -> None:
        """Every store with every other."""
        memory.flush()
        report = memory.verify()
        live = sum(known.live for known in self.records.values()) + len(self.keyed)
        if not report.ok:
            self.found.wrong("unclean", "; ".join(report.problems))
        if (report.counts["records"], report.counts["lancedb"]) != (live, live):
            self.found.wrong("unclean", f"{report.counts}, expected {live} live records")


def _has_its_data(record: MemoryRecord) -> bool:
    """Whether the data is what was added with the text, or what an update brought since."""
    if "op" not in record.metadata:
        return record.data is None or "revision" in record.data
    n, item, _ = record.metadata["op"]
    return record.data == data_of(n, item) or (record.data is not None and list(record.data) == ["revision"])
