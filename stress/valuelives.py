"""Lives of a process that puts values, each ended by SIGKILL at a named instant; what it left is compared with what it
had acknowledged."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agentmem import AgentMemError, Memory, NotFoundError, Settings
from stress.points import Point, arm_at
from stress.victim import HashedWords

KEYS = 6
_CHUNKS = "agentmem.stores.chunks:"
_FILES = "agentmem.stores.chunkfiles:"
_COMMIT = "agentmem.stores.commit:GroupCommit._patiently"
_GLACIER = "agentmem.glacier."
_INSERT = "agentmem.stores.connection:Connection.insert"

POINTS: dict[str, Point] = {
    "put: chunks in part": Point(_FILES + "Staging.write", most=20),
    "put: chunks in, folders not synced": Point(_FILES + "Staging.seal", before=True, most=8),
    "put: on the disk, nothing committed": Point(_FILES + "Staging.seal", most=8),
    "put: record in, chunks not": Point(_CHUNKS + "refer", before=True, most=8),
    "put: chunks in, nothing refers to them": Point(_INSERT, sql="INSERT INTO chunks", most=8),
    "put: refers to them, not committed": Point(_CHUNKS + "refer", most=8),
    "put: committed, not synced": Point(_COMMIT, sql="COMMIT", most=30),
    "put: committed, files in part": Point(_FILES + "_keep", before=True, most=8),
    "put: committed, files not moved": Point(_FILES + "_move", before=True, most=8),
    "put: files moved, not acknowledged": Point(_FILES + "_move", most=8),
    "restore: body in, chunks not": Point(_CHUNKS + "carry", before=True, most=2),
    "collect: nothing removed": Point(_CHUNKS + "collect", before=True, most=15),
    "collect: removed, not committed": Point(_CHUNKS + "collect", most=15),
    "collect: rows gone, files not": Point(_FILES + "ChunkFiles.remove", before=True, most=3),
    "collect: files gone, still noted": Point(_FILES + "ChunkFiles.remove", most=3),
    "pack: anew, not committed": Point(_CHUNKS + "repack", most=3),
    "move: noted, nothing written": Point(_GLACIER + "uploading:begin", most=3),
    "move: object aside, not in place": Point("agentmem.archive.folder:_sync", before=True, most=8),
    "move: archive in part": Point("agentmem.archive.folder:FolderObjects.create", most=8),
    "move: written, not let go of": Point(_GLACIER + "uploading:write", most=3),
    "move: let go of, not committed": Point("agentmem.stores.archived:shelve", most=3),
    "move: committed, files there": Point("agentmem.stores.chunkupkeep:remove_files", before=True, most=8),
    "back: fetched, nothing committed": Point(_GLACIER + "contents:Returned.fetch", most=3),
    "back: whole, not committed": Point("agentmem.stores.archived:unshelve", most=3),
    "back: committed, files not kept": Point(_GLACIER + "contents:Returned.settle", before=True, most=3),
    "erase: still in the archive": Point(_GLACIER + "burying:_rewrite", before=True, most=2),
    "erase: written anew, not noted": Point(_GLACIER + "burying:_note", before=True, most=1),
    "sweep: before": Point(_FILES + "ChunkFiles.sweep", before=True, most=1),
    "sweep: after": Point(_FILES + "ChunkFiles.sweep", most=1),
}


def body_of(n: int) -> bytes:
    """The value of a number: of any size up to a few chunks, some alike, some that can be packed."""
    pick = random.Random(n)
    size = pick.choice([0, 40, 3_000, 70_000, 600_000, 1_300_000])
    if n % 3 == 0:
        return (f"value {n % 9}, " * (size // 8 + 1)).encode()[:size]
    return np.random.default_rng(n % 7).bytes(size)


@dataclass
class Life:
    """What a child is to do."""

    path: str
    first: int
    seed: int
    point: str | None = None
    nth: int = 1


@dataclass
class Known:
    """What is known of a store from outside: of each key the values that it may have, None for none."""

    values: dict[str, set[int | None]] = field(default_factory=dict[str, set[int | None]])
    kept: dict[str, dict[int, int]] = field(default_factory=dict[str, dict[int, int]])
    """Of each key the values of its versions, as far as they were acknowledged."""
    problems: list[str] = field(default_factory=list[str])

    def hear(self, lines: Iterator[str]) -> None:
        """Take in what a child has announced, and what it acknowledged."""
        begun: dict[str, Any] | None = None
        for line in lines:
            said = json.loads(line)
            if "error" in said:
                self.problems.append(said["error"])
            elif "done" not in said:
                begun = said
                for key, n in said["to"].items():
                    self.values.setdefault(key, {None}).add(n)
            elif begun is not None:
                for key, n in begun["to"].items():
                    self.values[key] = {n}
                    versions = self.kept.setdefault(key, {})
                    if n is None:
                        versions.clear()
                    else:
                        versions[said["done"][key]] = n

    def look(self, memory: Memory) -> None:
        """Compare a store that was opened again; afterwards what it has is what is known."""
        for key, allowed in self.values.items():
            try:
                found = memory.values.get(key, user_id="ana")
            except AgentMemError as exc:
                self.problems.append(f"{key}: {type(exc).__name__}: {exc}")
                continue
            fitting = [n for n in allowed if found == (None if n is None else body_of(n))]
            if not fitting:
                what = "nothing" if found is None else f"{len(found):,} bytes"
                self.problems.append(
                    f"{key} has {what}, and should have the value of one of {sorted(map(str, allowed))}"
                )
            self.values[key] = {*fitting[:1]} or {None}
            for version, n in list(self.kept.get(key, {}).items())[-3:]:
                self._look_back(memory, key, version, n)
        self.problems += memory.verify().problems
        memory.repair()
        self.problems += memory.verify().problems
        engine = memory.handle.engine()
        named = {name for (name,) in engine.repository.db.execute("SELECT file FROM chunks WHERE file IS NOT NULL")}
        there = {f"{path.parent.name}/{path.name}" for path in (engine.path / "values").rglob("*") if path.is_file()}
        self.problems += [f"{name} is an orphan after repair" for name in sorted(there - named)]
        self.problems += [f"{name} is lost" for name in sorted(named - there)]
        known = {name for (name,) in engine.repository.db.execute("SELECT name FROM archives")}
        there = {
            path.name
            for path in ice(engine.path).glob("*")
            if path.is_dir() and any(one.is_file() for one in path.rglob("*"))
        }
        self.problems += [f"the archive {name} is an orphan after repair" for name in sorted(there - known)]

    def _look_back(self, memory: Memory, key: str, version: int, n: int) -> None:
        with suppress(NotFoundError):  # it was deleted, or it is too long ago
            before = memory.values.info(key, user_id="ana")
            if before is None or before.version <= version:
                return
            now = memory.values.get(key, user_id="ana")
            memory.values.restore(key, version, user_id="ana")
            if memory.values.get(key, user_id="ana") != body_of(n):
                self.problems.append(f"{key} at version {version} is not the value of {n}")
            memory.values.put(key, now, user_id="ana")
            self.kept.pop(key, None)


def ice(path: Path) -> Path:
    """Where the archives of a store are."""
    return path.with_name(f"{path.name}-ice")


def opened(path: Path) -> Memory:
    """A store with archives, which go as soon as nothing lies in them."""
    return Memory(path, embedder=HashedWords(), settings=Settings(glacier={"url": str(ice(path)), "keep_days": 0}))


def live(path: Path, known: Known, seed: int, first: int, point: str | None) -> bool:
    """Have a child live until it is killed; whether it came to the point."""
    nth = random.Random(seed).randint(1, POINTS[point].most) if point else 0
    task = json.dumps(Life(str(path), first, seed, point, nth).__dict__)
    child = subprocess.run(
        [sys.executable, "-m", "stress.valuelives", task],
        cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=False, timeout=120,
    )  # fmt: skip
    known.hear(line for line in child.stdout.splitlines() if line.endswith("}"))
    if child.returncode not in (0, -9):
        known.problems.append(f"the child ended with {child.returncode}")
    with opened(path) as memory:
        known.look(memory)
    return child.returncode == -9


def _say(**line: Any) -> None:
    os.write(1, (json.dumps(line) + "\n").encode())


def main(task: Life) -> None:
    """The child: puts, replaces, moves, deletes, erases and collects until it dies, or has done its share."""
    pick = random.Random(task.seed)
    with opened(Path(task.path)) as memory:
        memory.values.put("warm up", 1)
        if task.point is not None:
            arm_at(POINTS[task.point], task.nth)
        known = dict[str, dict[int, int]]()
        for n in range(task.first, task.first + 60):
            _step(memory, pick, n, known)


def _step(memory: Memory, pick: random.Random, n: int, known: dict[str, dict[int, int]]) -> None:
    values, key = memory.values, f"key {pick.randrange(KEYS)}"
    do = pick.choices(
        ["put", "many", "restore", "pack", "move", "back", "delete", "erase", "compact"], [10, 3, 4, 3, 6, 4, 2, 3, 2]
    )[0]
    try:
        if do == "compact":
            memory.compact()
        elif do == "many":
            wanted = {f"key {(n + i) % KEYS}": n * 10 + i for i in range(3)}
            _say(do="put", to=wanted)
            tier = pick.choice([None, "glacier"])
            made = values.put_many({one: body_of(m) for one, m in wanted.items()}, user_id="ana", tier=tier)
            for info in made:
                known.setdefault(info.key, {})[info.version] = wanted[info.key]
            _say(done={info.key: info.version for info in made})
        elif do == "put":
            _say(do="put", to={key: n * 10})
            version = values.put(key, body_of(n * 10), user_id="ana").version
            known.setdefault(key, {})[version] = n * 10
            _say(done={key: version})
        elif not values.exists(key, user_id="ana"):
            return
        elif do == "pack":
            values.compress(key, level=19, user_id="ana")
        elif do in ("move", "back"):
            values.move(key, "glacier" if do == "move" else "cold", user_id="ana")
        elif do == "restore":
            _back(memory, key, pick, known.setdefault(key, {}))
        else:
            _say(do=do, to={key: None})
            (values.delete if do == "delete" else values.erase)(key, user_id="ana")
            _say(done={})
    except AgentMemError as exc:
        _say(error=f"{do} of {key}: {type(exc).__name__}: {exc}")


def _back(memory: Memory, key: str, pick: random.Random, known: dict[int, int]) -> None:
    """Go back to a version that this process has put itself."""
    kept = [each.version for each in memory.values.versions(key, user_id="ana") if each.kind and each.version in known]
    if kept:
        version = pick.choice(kept)
        _say(do="restore", to={key: known[version]})
        now = memory.values.restore(key, version, user_id="ana").version
        known[now] = known[version]
        _say(done={key: now})


if __name__ == "__main__":
    main(Life(**json.loads(sys.argv[1])))
