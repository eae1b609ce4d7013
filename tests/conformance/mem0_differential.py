"""mem0 itself and our ``Memory`` side by side: the same random calls, and the same answers but for what is named here.

Run as ``mem0.toml`` says, or ``python tests/conformance/mem0_differential.py``, where mem0ai is. What may differ:

* ids and times, which are each one's own;
* the order of what has the same score, and of ``get_all``, where more is there than was asked for;
* ``history()`` of what was deleted: mem0 keeps it for good, agentmem as long as it can be restored;
* kinds of errors: mem0 raises several, agentmem ``InvalidInputError``, a ``ValueError``;
* ``contains``, which finds parts of words here, and whole words with the Qdrant that mem0 brings;
* filters that mem0 refuses or reads in a way of its own, and that are not asked here: equality with floats and None,
  ``ne`` and ``nin`` on lists, several operators on a key, ``icontains`` (which minds case there), a key both in AND
  and elsewhere (the one overwrites the other there), and ids that are None.
"""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ |= {"MEM0_TELEMETRY": "False", "HF_HUB_OFFLINE": "1", "MEM0_DIR": tempfile.mkdtemp()}

from mem0 import Memory as Theirs
from mem0.utils.factory import EmbedderFactory, LlmFactory

import agentmem
from agentmem.adapters.mem0 import Memory as Ours

DIM = 32
WORDS = "tea cat train lisbon piano garden coffee novel bread harbour winter bicycle".split()
USERS, AGENTS, RUNS = ["ana", "rui"], ["cook", "guide"], ["monday", "tuesday"]
TODAY = datetime.now(UTC).date()
DAYS = [None, None, None, (TODAY - timedelta(2)).isoformat(), TODAY.isoformat(), (TODAY + timedelta(2)).isoformat()]


class Hashed:
    """The normalised sum of a fixed random vector per word, with the interfaces of both."""

    name, dim = "hashed", DIM

    def __init__(self) -> None:
        self.config = type("Config", (), {"embedding_dims": DIM})()

    def embed_query(self, text: str) -> np.ndarray:
        words = re.findall(r"\w+", text.lower()) or [text]
        digests = (blake2b(word.encode(), digest_size=2 * DIM).digest() for word in words)
        total = sum(np.frombuffer(digest, np.int16).astype(np.float64) for digest in digests)
        return (total / np.linalg.norm(total)).astype(np.float32)

    def embed_documents(self, texts: list[str]) -> np.ndarray:
        return np.array([self.embed_query(text) for text in texts])

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        return self.embed_query(text).tolist()

    def embed_batch(self, texts: list[str], memory_action: str | None = None) -> list[list[float]]:
        return [self.embed(text) for text in texts]


EmbedderFactory.create = classmethod(lambda cls, *_: Hashed())  # type: ignore[method-assign]
LlmFactory.create = classmethod(lambda cls, *_: None)  # type: ignore[method-assign]


class Pair:
    """The two, and which id of the one is which of the other."""

    def __init__(self, folder: str) -> None:
        store = {"path": f"{folder}/qdrant", "embedding_model_dims": DIM, "collection_name": "pair", "on_disk": True}
        self.theirs: Any = Theirs.from_config(
            {"vector_store": {"provider": "qdrant", "config": store}, "history_db_path": f"{folder}/history.db"}
        )
        self.client = agentmem.Memory(f"{folder}/agentmem", embedder=Hashed())
        self.ours: Any = Ours(self.client)
        self.ids: list[tuple[str, str]] = []
        self.differences: list[str] = []
        self.returned = self.refused = 0

    def both(self, name: str, *args: Any, **arguments: Any) -> None:
        """One call of both, and a comparison of what they answer; an int among ``args`` is the n-th memory."""
        answers = [
            self._answer(
                getattr(memory, name), [self.ids[one][side] if isinstance(one, int) else one for one in args], arguments
            )
            for side, memory in enumerate((self.theirs, self.ours))
        ]
        if name == "add" and all(isinstance(answer, dict) for answer in answers):
            made = [[each["id"] for each in answer["results"]] for answer in answers]
            self.ids += zip(*made, strict=True)
        theirs, ours = (self._plain(name, side, answer) for side, answer in enumerate(answers))
        self.refused += theirs == "refused"
        self.returned += len(theirs) if isinstance(theirs, list) else 0
        if not _same(theirs, ours):
            call = f"{name}{args}{arguments}"
            self.differences.append(f"{call}\n  theirs {str(theirs)[:500]}\n  ours   {str(ours)[:500]}")

    def _answer(self, call: Callable[..., Any], args: list[Any], arguments: dict[str, Any]) -> Any:
        try:
            return call(*args, **arguments)
        except Exception as exc:
            return exc

    def _plain(self, name: str, side: int, answer: Any) -> Any:
        if isinstance(answer, Exception):
            return "refused"
        known = {pair[side]: index for index, pair in enumerate(self.ids)}
        if name == "history":
            shown = ("event", "old_memory", "new_memory", "is_deleted", "actor_id", "role")
            return [{key: row[key] for key in shown} | {"id": known[row["memory_id"]]} for row in answer]
        if isinstance(answer, dict) and "results" in answer:
            return [self._memory(each, known) for each in answer["results"]]
        return self._memory(answer, known) if isinstance(answer, dict) and "id" in answer else answer

    def _memory(self, memory: dict[str, Any], known: dict[str, int]) -> dict[str, Any]:
        rest = {key: value for key, value in memory.items() if key not in ("created_at", "updated_at")}
        return rest | {"id": known[memory["id"]]}


def _same(theirs: Any, ours: Any) -> bool:
    if not (isinstance(theirs, list) and isinstance(ours, list)) or len(theirs) != len(ours):
        return theirs == ours
    if not theirs or "score" not in theirs[0]:
        return sorted(map(_frozen, theirs)) == sorted(map(_frozen, ours))
    scores = [[each["score"] for each in answer] for answer in (theirs, ours)]
    last = min(scores[0])
    kept = [sorted(_frozen(each) for each in answer if each["score"] > last + 1e-4) for answer in (theirs, ours)]
    return np.allclose(*scores, atol=1e-5) and kept[0] == kept[1]


def _frozen(memory: dict[str, Any]) -> str:
    rest = {key: round(value, 3) if key == "score" else value for key, value in memory.items()}
    rest.pop("score_details", None)
    return repr(sorted((key, repr(value)) for key, value in rest.items()))


def scope(rng: random.Random, *, some: float = 0.5) -> dict[str, Any]:
    """One to three ids."""
    ids = {"user_id": rng.choice(USERS), "agent_id": rng.choice(AGENTS), "run_id": rng.choice(RUNS)}
    chosen = {name: value for name, value in ids.items() if rng.random() < some}
    return chosen or {"user_id": ids["user_id"]}


def text(rng: random.Random) -> str:
    return " ".join(rng.sample(WORDS, rng.randint(1, 5)))


def metadata(rng: random.Random) -> dict[str, Any] | None:
    values: dict[str, Any] = {
        "topic": rng.choice(["travel", "food", "music"]), "year": rng.randint(2020, 2026),
        "price": rng.random() * 10, "done": rng.random() < 0.5, "tags": rng.sample(["a", "b", "c"], 2),
        "place": {"city": rng.choice(["Lisbon", "Porto"])}, "at": f"2026-0{rng.randint(1, 9)}-05T10:00:00+00:00",
        "none": None, "user_id": "eve",
    }  # fmt: skip
    chosen = {name: value for name, value in values.items() if rng.random() < 0.4}
    return chosen or None


def condition(rng: random.Random) -> dict[str, Any]:
    year, topic = rng.randint(2020, 2026), rng.choice(["travel", "food", "music", "art"])
    at = f"2026-0{rng.randint(1, 9)}-05T12:00:00+00:00"
    return rng.choice([
        {"topic": topic}, {"topic": {"eq": topic}}, {"topic": {"ne": topic}}, {"topic": {"in": [topic, "food"]}},
        {"topic": {"nin": [topic, "food"]}}, {"topic": {"contains": topic}}, {"topic": "*"}, {"topic": [topic]},
        {"year": {"gte": year}}, {"year": {"gt": year - 3, "lt": year}}, {"year": year}, {"price": {"lte": year % 10}},
        {"done": True}, {"tags": "a"}, {"tags": {"in": ["a", "x"]}}, {"place.city": "Lisbon"}, {"at": {"gt": at}},
        {"role": "assistant"}, {"actor_id": "Zoe"}, {"missing": {"ne": 1}}, {"agent_id": "cook"},
        {"topic": {"like": 1}},
    ])  # fmt: skip


def filters(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = scope(rng, some=0.4)
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        several = [condition(rng) for _ in range(rng.randint(1, 3))]
        kind = rng.choice(["plain", "plain", "AND", "OR", "NOT"])
        if kind == "plain":
            known = {*found, *(key for one in found.get("AND", ()) for key in one)}
            found |= {key: value for key, value in several[0].items() if key not in known}
        elif kind != "AND" or len({*found, *(key for one in several for key in one)}) == len(found) + len(several):
            found[kind] = several
    return found


def step(pair: Pair, rng: random.Random) -> None:
    """One random call."""
    one = rng.randrange(len(pair.ids)) if pair.ids else "01a217bf-ed0f-7a58-8647-d8eb414fb605"
    match rng.choices(
        ["add", "messages", "search", "get_all", "get", "update", "delete", "delete_all", "history", "wrong"],
        [24, 12, 24, 12, 8, 10, 5, 0.6, 5, 5],
    )[0]:
        case "add":
            pair.both(
                "add", text(rng), **scope(rng), metadata=metadata(rng), expiration_date=rng.choice(DAYS), infer=False
            )
        case "messages":
            pair.both("add", [
                rng.choice([
                    {"role": "user", "content": text(rng)}, {"role": "assistant", "content": text(rng), "name": "Zoe"},
                    {"role": "system", "content": "be kind"}, {"role": "assistant", "content": None}, {"content": "x"},
                    {"role": "user", "content": [{"type": "text", "text": text(rng)}, {"type": "image_url"}]},
                ])
                for _ in range(rng.randint(0, 4))
            ], **scope(rng), metadata=metadata(rng), infer=False)  # fmt: skip
        case "search":
            pair.both(
                "search", text(rng), filters=filters(rng), top_k=rng.choice([0, 1, 5, 20, 100]),
                threshold=rng.choice([None, 0, 0.1, 0.5]), show_expired=rng.random() < 0.3, explain=rng.random() < 0.2,
            )  # fmt: skip
        case "get_all":
            pair.both("get_all", filters=filters(rng), top_k=1_000, show_expired=rng.random() < 0.3)
        case "get" | "delete" | "history" as name:
            pair.both(name, one)
        case "update":
            changed: dict[str, Any] = {"text": text(rng)} if rng.random() < 0.6 else {}
            changed |= {"metadata": metadata(rng)} if rng.random() < 0.5 else {}
            changed |= {"expiration_date": rng.choice(DAYS)} if rng.random() < 0.3 else {}
            pair.both("update", one, **changed)
        case "delete_all":
            pair.both("delete_all", **scope(rng, some=0.7))
        case _:
            wrong: list[tuple[str, list[Any], dict[str, Any]]] = [
                ("add", ["x"], {"infer": False}), ("add", [0.5], {"user_id": "ana", "infer": False}),
                ("add", ["x"], {"user_id": "a b", "infer": False}), ("search", ["x"], {"filters": {}}),
                ("search", ["x"], {"user_id": "ana"}), ("search", ["  "], {"filters": {"user_id": "ana"}}),
                ("search", ["x"], {"filters": {"user_id": "ana"}, "threshold": 2}),
                ("get_all", [], {"filters": {"topic": "x"}}),
                ("get_all", [], {"filters": {"user_id": "a"}, "top_k": -1}),
                ("update", [one], {}), ("delete_all", [], {}), ("delete_all", [], {"user_id": " "}),
                ("add", ["x"], {"user_id": "ana", "infer": False, "expiration_date": "soon"}),
            ]  # fmt: skip
            name, args, arguments = rng.choice(wrong)
            pair.both(name, *args, **arguments)


@pytest.mark.parametrize("seed", range(3))
def test_both_answer_the_same(seed: int, tmp_path: Path) -> None:
    rng, pair = random.Random(seed), Pair(str(tmp_path))
    for _ in range(600):
        step(pair, rng)
    pair.client.close()
    assert not pair.differences, "\n".join(pair.differences)
    assert pair.returned > 500
    assert pair.refused < 100


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-s", "-c", "/dev/null", "--noconftest"]))
