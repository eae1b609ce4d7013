"""One peer measured in a process of its own: options as JSON on stdin, the result as JSON on stdout's last line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from agentmem import Embedder
from agentmem.embedding import open_embedder
from stress.measure import Figure, Usage, files_and_bytes
from stress.peers import Peer, opener
from stress.texts import Profile, maker, question

_TOLERANCE = 1e-4


def main() -> None:
    options = json.load(sys.stdin)
    try:
        package, open_peer = opener(options["peer"])
    except ImportError as exc:
        print(json.dumps({"peer": options["peer"], "unavailable": f"not installed ({exc})"}))
        return
    embedder = open_embedder(options["embedder"], cache_size=0)
    embedder.embed_query("warm up")
    folder = Path(options["folder"])
    result = {"peer": options["peer"], "version": version(package)}
    print(json.dumps(result | _measure(lambda: open_peer(folder, embedder), folder, embedder, options)))


def _measure(open_: Callable[[], Peer], folder: Path, embedder: Embedder, options: dict[str, Any]) -> dict[str, Any]:
    usage, text_of, ask = Usage(), maker(Profile(options["profile"]), options["seed"]), question(options["seed"])
    stored: dict[str, list[str]] = {}
    peer = open_()
    batch = Figure("batch add")
    start = time.perf_counter()
    for number in range(options["users"] * options["records"] // options["batch_size"]):
        user = f"user-{number % options['users']}"
        texts = [text_of(number, item) for item in range(options["batch_size"])]
        with batch.timed(len(texts)):
            peer.add_batch(user, texts)
        stored.setdefault(user, []).extend(texts)
        if time.perf_counter() - start > options["load_seconds"]:
            break
    batch.seconds = sum(batch.latencies)
    single = Figure("single add")
    for number in range(options["singles"]):
        user, text = f"user-{number % len(stored)}", text_of(10_000_000, number)
        with single.timed():
            peer.add(user, text)
        stored[user].append(text)
        if sum(single.latencies) > options["load_seconds"] / 4:
            break
    single.seconds = sum(single.latencies)
    peer.ready()
    figures, checks = [batch, single], {"cross_scope": 0, "short": 0}
    hybrid = getattr(peer, "search_hybrid", None)
    for name, search in (("scoped search", peer.search), ("scoped search, hybrid", hybrid)):
        if search is not None:
            figure, recall = _searches(search, stored, embedder, ask, options, checks, name)
            figures.append(figure)
            if search is not hybrid:
                checks["recall"] = recall
    resources = usage.to_dict()  # before the store is counted, which may read all of it
    expected = sum(map(len, stored.values()))
    checks["missing"] = expected - peer.count()
    peer.close()
    reopened = open_()
    checks["missing_after_reopening"] = expected - reopened.count()
    reopened.close()
    return {
        "figures": [figure.to_dict() for figure in figures],
        "records": expected,
        "checks": checks,
        "resources": {**resources, "disk_mb": round(files_and_bytes(folder)[1] / 1_048_576, 1)},
    }


def _searches(
    search: Callable[[str, str, int], list[tuple[str, str]]],
    stored: dict[str, list[str]],
    embedder: Embedder,
    ask: Callable[[int], str],
    options: dict[str, Any],
    checks: dict[str, Any],
    name: str,
) -> tuple[Figure, float]:
    """Every query different, users in turn; each user is searched once before, unmeasured."""
    limit, users, figure = options["limit"], list(stored), Figure(name)
    recalls: list[float] = []
    offset = 1_000_000 * len(name)
    start = time.perf_counter()
    for number, user in enumerate(users):
        search(user, ask(offset + number), limit)
        if time.perf_counter() - start > options["search_seconds"]:
            break
    offset += len(users)
    start = time.perf_counter()
    for number in range(options["queries"]):
        user, query = users[number % len(users)], ask(offset + number)
        with figure.timed():
            found = search(user, query, limit)
        checks["cross_scope"] += sum(owner != user for owner, _ in found)
        checks["short"] += len(found) != min(limit, len(stored[user]))
        if len(recalls) < 20:
            recalls.append(_recall(stored[user], query, [text for _, text in found], limit, embedder))
        if time.perf_counter() - start > options["search_seconds"]:
            break
    figure.seconds = sum(figure.latencies)
    return figure, round(sum(recalls) / len(recalls), 4)


def _recall(texts: list[str], query: str, found: list[str], limit: int, embedder: Embedder) -> float:
    similarities = embedder.embed_documents(texts) @ embedder.embed_query(query)
    worst = np.sort(similarities)[::-1][:limit][-1] - _TOLERANCE
    good = {text for text, similarity in zip(texts, similarities, strict=True) if similarity >= worst}
    return len(good.intersection(found)) / min(limit, len(texts))


if __name__ == "__main__":
    main()
