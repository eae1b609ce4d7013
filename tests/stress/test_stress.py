"""The stress tests themselves: every command runs, writes what is documented, and fails when the store is damaged."""

from __future__ import annotations

import json
import re
import shutil
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lancedb
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from agentmem import Memory, Settings
from stress import pair_run
from stress.__main__ import app
from stress.ledger import Checks, Ledger, check
from stress.limits import measure
from stress.oracle import Oracle
from stress.pairs import AMOUNTS, Measurement, Trio
from stress.texts import Profile, maker, question

DOCS = ROOT / "docs" / "performance.md"
TINY = {
    "throughput": ["--mode", "all", "--duration", "0.1", "--num-batches", "2", "--batch-size", "10", "--limits"],
    "search": ["--users", "3", "--records", "30", "--queries", "4", "--checked", "3"],
    "mixed": ["--users", "4", "--records", "60", "--duration", "0.5"],
    "soak": ["--users", "4", "--records", "60", "--duration", "1", "--every", "0.2"],
    "compare": ["--peer", "agentmem", "--users", "2", "--records", "20", "--batch-size", "10", "--singles", "3",
                "--queries", "5"],
}  # fmt: skip
TEXTS = [maker(Profile.DIALOGUE, 7)(0, item) for item in range(20)]


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every command run once; its JSON file."""
    folder = tmp_path_factory.mktemp("stress")
    for command, options in TINY.items():
        run(command, *options, "--json", str(folder / f"{command}.json"))
    return {command: folder / f"{command}.json" for command in TINY}


@pytest.mark.parametrize("command", TINY)
def test_command_writes_what_is_documented(command: str, results: dict[str, Path]) -> None:
    found = json.loads(results[command].read_text())
    documented = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert list(found) == documented
    assert found["ok"]
    assert found["command"] == command
    assert found["errors"] == {}
    for name in ("lost", "duplicated", "cross_scope", "altered", "unexpected", "ghosts", "short", "stale"):
        assert found["checks"][name] == 0
    if command != "compare":
        assert found["checks"]["records"] == found["checks"]["vectors"] == found["resources"]["records"] > 0
        assert found["resources"]["query_cache_hit_rate"] == 0
        assert all(figure["operations"] > 0 for figure in found["figures"])


def test_throughput_stands_beside_its_limits(results: dict[str, Path]) -> None:
    found = json.loads(results["throughput"].read_text())
    names = ["tokenizer", "embedding", "embedding, 2 threads", "libSQL insert", "LanceDB add"]
    assert [limit["name"] for limit in found["limits"]] == names
    assert all(limit["ratios"].keys() == {"single", "batch", "concurrent", "stream"} for limit in found["limits"])


def test_search_is_compared_with_brute_force(results: dict[str, Path]) -> None:
    found = json.loads(results["search"].read_text())
    assert found["notes"]["recall"] == 1
    assert {"hybrid", "vector", "keyword", "hybrid filtered"} <= {figure["name"] for figure in found["figures"]}


def test_soak_samples(results: dict[str, Path]) -> None:
    samples = json.loads(results["soak"].read_text())["samples"]
    assert len(samples) >= 4
    assert samples[0].keys() >= {"seconds", "ops_per_second", "rss_mb", "disk_mb", "files", "vectors_behind"}


def test_a_peer_that_is_not_there_is_named_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "compare.json"
    run("compare", "--peer", "mem0", "--users", "1", "--records", "10", "--batch-size", "10", "--singles", "1",
        "--queries", "1", "--json", str(file))  # fmt: skip
    peer = json.loads(file.read_text())["notes"]["peers"]["mem0"]
    assert "figures" in peer or "not installed" in peer["unavailable"]


def test_records_by_key_are_right_whoever_else_is_there(tmp_path: Path) -> None:
    file = tmp_path / "keyed.json"
    run("keyed", "--items", "100", "--namespaces", "3", "--calls", "10", "--batch-size", "20", "--json", str(file))
    found = json.loads(file.read_text())
    assert found["ok"]
    assert {"put new", "get", "query in a namespace", "delete"} <= found["notes"]["milliseconds"].keys()


def test_sessions_are_compared_or_it_says_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "sessions.json"
    if not find_spec("agents"):
        assert "agentmem-db[openai-agents]" in run("sessions", code=2).replace("\n", "")
        return
    run("sessions", "--items", "20", "--calls", "5", "--json", str(file))
    assert {"add", "get all", "pop"} <= json.loads(file.read_text())["notes"]["milliseconds"].keys()


# -- pairs -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pairs_compares_a_checkout_with_itself(tmp_path: Path) -> None:
    file, chosen = tmp_path / "pairs.json", ("search", "import")
    only = [argument for name in chosen for argument in ("--only", name)]
    run("pairs", "--base", str(ROOT), *only, "--rounds", "1", "--scale", "0.01", "--tolerance", "1000",
        "--json", str(file))  # fmt: skip
    found = json.loads(file.read_text())
    assert found["ok"]
    assert found["options"]["only"] == ", ".join(chosen)
    assert found["notes"]["verdict"] == "not slower"
    assert tuple(found["notes"]["pairs"]) == chosen
    for one in found["notes"]["pairs"].values():
        assert list(one) == ["what", "base_ms", "current_ms", "ratio", "spread", "excess", "rounds_ms"]
        [base], [current], [again] = (one["rounds_ms"][name] for name in ("base", "current", "again"))
        assert one["current_ms"] == current > 0
        assert one["base_ms"] == pytest.approx((base + again) / 2, abs=0.001)
        assert one["ratio"] == pytest.approx(current / (base * again) ** 0.5, rel=0.01)
        assert one["excess"] == pytest.approx(max(0, one["ratio"] - 1 - one["spread"]), abs=0.001)


def test_each_way_of_adding_in_pairs_adds_every_text(tmp_path: Path) -> None:
    for work in ("batch", "single", "concurrent"):
        assert pair_run.WORK[work]({"folder": str(tmp_path / work), "texts": TEXTS}) > 0
    with pytest.raises(RuntimeError, match="40 texts became 20 records"):
        pair_run.batch({"folder": str(tmp_path / "twice"), "texts": TEXTS * 2})


def test_what_chance_explains_is_not_slower() -> None:
    amount = AMOUNTS[Measurement.BATCH]
    steady = Trio(amount, base=[1.0, 2.0, 1.0], current=[1.2, 2.4, 1.2], again=[1.0, 2.0, 1.0])
    assert (steady.ratio, steady.spread, steady.excess) == pytest.approx((1.2, 0, 0.2))
    busy = Trio(amount, base=[1.0, 1.5, 1.0], current=[1.2, 1.2, 1.2], again=[1.5, 1.0, 0.9])
    assert busy.ratio == pytest.approx(1.2 / 1.5**0.5)
    assert busy.spread == pytest.approx(0.5)
    assert busy.excess == 0


def test_pairs_wants_a_checkout(tmp_path: Path) -> None:
    run("pairs", "--base", str(tmp_path), code=2)


def test_pairs_says_which_side_failed(tmp_path: Path) -> None:
    (tmp_path / "agentmem").mkdir()
    (tmp_path / "agentmem" / "__init__.py").write_text("raise ImportError('half a checkout')\n")
    output = run("pairs", "--base", str(tmp_path), "--only", "import", "--scale", "0.01", code=1)
    assert "problem: fill with base: ImportError: half a checkout" in output


# -- report ------------------------------------------------------------------------------------------------------------


def test_report_is_one_page_that_needs_nothing_else(results: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run("report", *map(str, results.values()), "--output", str(page))
    text = page.read_text(encoding="utf-8")
    assert text.count("<h2>") == len(results)
    assert "<svg" in text
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=\"?https?:", text)


def test_report_refuses_other_files(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    run("report", str(other), "--output", str(tmp_path / "page.html"), code=2)


def test_a_run_wants_a_store_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    run("mixed", "--path", str(tmp_path), code=2)


# -- the checks --------------------------------------------------------------------------------------------------------


def fill(memory: Memory) -> Ledger:
    ledger = Ledger()
    for number, text in enumerate(TEXTS):
        user = f"user-{number % 2}"
        ledger.added(user, text, memory.add(text, user_id=user).id)
    return ledger


def differing(checks: Checks) -> dict[str, Any]:
    known = {"records", "vectors", "problems"}
    return {name: value for name, value in vars(checks).items() if value and name not in known}


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, Ledger]:
    """A store and what it was told; the test damages it behind the ledger's back."""
    with Memory(tmp_path / "store") as memory:
        return tmp_path / "store", fill(memory)


def test_a_whole_store_passes(damaged: tuple[Path, Ledger]) -> None:
    path, ledger = damaged
    with Memory(path) as memory:
        checks = check(memory, ledger)
    assert checks.ok, checks
    assert checks.records == checks.vectors == len(TEXTS)


def test_a_deleted_record_is_lost(damaged: tuple[Path, Ledger]) -> None:
    path, ledger = damaged
    with Memory(path) as other:
        assert other.delete(next(iter(ledger.users)))
    with Memory(path) as memory:
        assert differing(check(memory, ledger)) == {"lost": 1}


def test_a_second_copy_is_a_duplicate(damaged: tuple[Path, Ledger]) -> None:
    path, ledger = damaged
    with Memory(path) as other:
        other.add(TEXTS[0], user_id="user-0", dedupe=False)
    with Memory(path) as memory:
        assert differing(check(memory, ledger)) == {"duplicated": 1}


def test_somebody_elses_record_and_a_changed_one(damaged: tuple[Path, Ledger]) -> None:
    path, ledger = damaged
    first, second, third, *_ = ledger.users
    ledger.users[first] = "user-1"
    ledger.removed(third)
    with Memory(path) as other:
        other.update(second, content="Something else.")
        other.add("Nobody asked for this.", user_id="user-0")
    with Memory(path) as memory:
        found = differing(check(memory, ledger))
    assert found == {"cross_scope": 1, "altered": 1, "ghosts": 1, "unexpected": 1}


def test_vectors_that_are_gone_are_a_problem(damaged: tuple[Path, Ledger]) -> None:
    path, ledger = damaged
    with Memory(path) as memory:
        memory.flush()
        lancedb.connect(path / "lance").open_table("vectors_1").delete("row < 4")
        checks = check(memory, ledger)
    assert checks.problems
    assert not checks.ok


def test_what_failed_may_be_there_or_not(damaged: tuple[Path, Ledger]) -> None:
    path, ledger = damaged
    ledger.failed("user-0", "Perhaps.")
    with Memory(path) as memory:
        assert check(memory, ledger).ok
        memory.add("Perhaps.", user_id="user-0")
        assert check(memory, ledger).ok


def test_a_damaged_store_exits_with_1(damaged: tuple[Path, Ledger], tmp_path: Path) -> None:
    path, ledger = damaged
    with Memory(path) as other:
        other.delete(next(iter(ledger.users)))
    found = _finished(path, ledger, tmp_path / "out.json")
    assert found["checks"]["lost"] == 1
    assert not found["ok"]


def _finished(path: Path, ledger: Ledger, file: Path) -> dict[str, Any]:
    import typer

    from stress.outcome import Outcome

    with Memory(path) as memory:
        outcome = Outcome("throughput", {}, checks=check(memory, ledger))
    with pytest.raises(typer.Exit) as left:
        outcome.finish(file)
    assert left.value.exit_code == 1
    return json.loads(file.read_text())


def test_the_oracle_notices_a_missing_hit(damaged: tuple[Path, Ledger]) -> None:
    from datetime import UTC, datetime

    from agentmem.embedding import open_embedder

    path, _ = damaged
    with Memory(path) as memory:
        oracle = Oracle(list(memory.iterate(user_id="user-0")), open_embedder(cache_size=0))
        for mode in ("vector", "hybrid", "keyword"):
            found = memory.search(TEXTS[0], user_id="user-0", limit=4, mode=mode)
            assert oracle.recall(TEXTS[0], mode, found, 4, datetime.now(UTC)) == 1
            del found[1]
            assert oracle.recall(TEXTS[0], mode, found, 4, datetime.now(UTC)) == 0.75


def test_the_oracle_agrees_in_a_scope_of_many_terms(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from agentmem.embedding import open_embedder

    texts = [maker(Profile.DIALOGUE, 7)(1, item) for item in range(1_500)]
    ask = question(7)
    with Memory(tmp_path / "store") as memory:
        ids = [one.id for one in memory.add_many(texts[:1_400])]
        memory.search(ask(0))  # loads the scope and sorts its terms
        memory.add_many(texts[1_400:])
        for id in ids[:300]:
            memory.delete(id)
        memory.update(ids[400], content=texts[0])
        oracle = Oracle(list(memory.iterate()), open_embedder(cache_size=0))
        for number in range(1, 10):
            for mode in ("hybrid", "keyword"):
                found = memory.search(ask(number), mode=mode)
                assert oracle.recall(ask(number), mode, found, 10, datetime.now(UTC)) == 1


def test_steady_traffic_reaches_lancedb_in_few_writes(tmp_path: Path) -> None:
    delay, seconds = 0.4, 2.0
    with Memory(tmp_path / "store", settings=Settings(follower_delay_s=delay)) as memory:
        memory.add("The first one.")
        memory.flush()
        versions = tmp_path / "store" / "lance" / "vectors_1.lance" / "_versions"
        before, start, number = len(list(versions.iterdir())), time.monotonic(), 0
        while time.monotonic() - start < seconds:
            number += 1
            memory.add(f"Number {number}.")
        rounds = (time.monotonic() - start) / delay + 1
        assert len(list(versions.iterdir())) - before <= 2 * rounds
        memory.flush()
        assert memory.verify().counts["lancedb"] == number + 1


# -- the parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", Profile)
def test_texts_are_repeatable_and_differ(profile: Profile) -> None:
    made = [maker(profile, 7)(batch, item) for batch in range(50) for item in range(100)]
    assert made == [maker(profile, 7)(batch, item) for batch in range(50) for item in range(100)]
    assert len(set(made)) == len(made)
    assert all(text.isascii() for text in made)
    if profile is Profile.DIALOGUE:
        assert 110 < sum(map(len, made)) / len(made) < 160
    questions = list(map(question(7), range(5_000)))
    assert len(set(questions)) == len(questions)


def test_limits_measure_a_model_of_another_folder(tmp_path: Path) -> None:
    from agentmem.embedding.folder import BUNDLED

    folder = tmp_path / "model"
    shutil.copytree(BUNDLED, folder)
    texts = maker(Profile.SEED, 7)
    batches = ([texts(number, item) for item in range(10)] for number in range(10**6))
    found = measure(batches, str(folder), 0.1)
    assert all(speed > 0 for speed in found.values())


def test_lifecycle_runs_each_of_its_parts(tmp_path: Path) -> None:
    file = tmp_path / "lifecycle.json"
    run("lifecycle", "--part", "year", "--records", "100", "--days", "6", "--json", str(file))
    found = json.loads(file.read_text())
    assert found["ok"]
    assert found["year"]["records"] == 100
    assert not any(found["year"]["differences"].values())


@pytest.mark.slow
def test_a_store_that_is_swapped_under_writers_loses_nothing(tmp_path: Path) -> None:
    found = tmp_path / "swaps.json"
    run(
        "swaps",
        "--writers",
        "2",
        "--times",
        "8",
        "--every",
        "0.3",
        "--path",
        str(tmp_path / "swaps"),
        "--json",
        str(found),
    )
    assert json.loads(found.read_text())["notes"]["acknowledged"]


@pytest.mark.slow
def test_backups_are_measured_and_right(tmp_path: Path) -> None:
    found = tmp_path / "backup.json"
    run("backup", "--records", "300", "--pairs", "1", "--seconds", "1", "--interval", "0.3", "--json", str(found))
    steps = json.loads(found.read_text())["steps"]
    assert [steps[step]["records"] for step in ("full", "restore", "verify")] == [300, 300, 300]


@pytest.mark.slow
def test_tiers_are_measured_beside_exact(tmp_path: Path) -> None:
    found = tmp_path / "tiers.json"
    run("tiers", "--records", "3000", "--queries", "10", "--budgets", "0,2", "--pairs", "0", "--json", str(found))
    notes = json.loads(found.read_text())["notes"]
    assert {one["engine"] for one in notes["engines"]} >= {"exact", "int8", "lancedb"}
    assert [one["recall"] for one in notes["engines"] if one["engine"] == "exact"] == [1.0, 1.0]
    assert all(one["held_missed"] == 0 for one in notes["budgets"])
    run("report", str(found), "-o", str(tmp_path / "page.html"))
    assert "records by tier" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_archives_are_measured_and_right(tmp_path: Path) -> None:
    found = tmp_path / "glacier.json"
    run("glacier", "--records", "1200", "--users", "2", "--json", str(found))
    outcome = json.loads(found.read_text())
    assert outcome["same"]
    assert outcome["steps"]["missed"]["requests"] == 0


@pytest.mark.slow
def test_values_come_back_and_are_measured(tmp_path: Path) -> None:
    found = tmp_path / "values.json"
    run("values", "--small", "1000", "--large-mb", "1", "--stream-mb", "3", "--json", str(found))
    figures = json.loads(found.read_text())
    assert figures["small"]["agentmem"]["put_many_per_s"] > 0
    assert figures["stream"]["slice_read_mb"] <= 2
    assert figures["stream"]["rss_mb"] < 300


@pytest.mark.slow
def test_requests_are_measured_beside_calls_in_process(tmp_path: Path) -> None:
    file = tmp_path / "serve.json"
    run("serve", "--records", "50", "--requests", "40", "--connections", "4", "--json", str(file))
    measured = json.loads(file.read_text())["notes"]["measured"]
    assert list(measured) == ["in process", "1 worker", "2 workers"]
    assert all(one["calls"] == 40 for kinds in measured.values() for one in kinds.values())
