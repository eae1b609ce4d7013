"""Measuring retrieval: the published formats are read as they are, and the figures are what they are called."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stress.__main__ import app
from stress.conversations import load
from stress.quality import _ndcg, _recall

LOCOMO: list[dict[str, Any]] = [
    {
        "conversation": {
            "speaker_a": "Ada", "speaker_b": "Ben",
            "session_2_date_time": "9:05 am on 3 June, 2023",
            "session_2": [{"speaker": "Ada", "dia_id": "D2:1", "text": "The kiln arrived today."}],
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ada", "dia_id": "D1:1", "text": "What do you do at weekends?"},
                {"speaker": "Ben", "dia_id": "D1:2", "text": "I race pigeons.", "img_url": ["x"]},
            ],
        },
        "qa": [
            {"question": "What is Ben's hobby at weekends?", "answer": "pigeons", "evidence": ["D1:2"], "category": 4},
            {"question": "When did the kiln arrive?", "answer": "3 June", "evidence": ["D2:1; D1:1"], "category": 1},
            {"question": "Unknown evidence?", "answer": "", "evidence": ["D9:9"], "category": 2},
            {"question": "No evidence?", "evidence": [], "category": 5},
        ],
    }
]  # fmt: skip
LONGMEMEVAL: list[dict[str, Any]] = [
    {
        "question_id": "q1", "question_type": "single-session-user", "question": "Which degree do I have?",
        "answer": "Botany", "question_date": "2023/05/30 (Tue) 23:40", "answer_session_ids": ["s2"],
        "haystack_session_ids": ["s1", "s2"],
        "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/21 (Sun) 10:00"],
        "haystack_sessions": [
            [{"role": "user", "content": "How do I poach an egg?"}, {"role": "assistant", "content": "In hot water."}],
            [
                {"role": "user", "content": "I have a degree in botany. Which job fits?", "has_answer": True},
                {"role": "assistant", "content": "A botanical garden.", "has_answer": False},
            ],
        ],
    },
    {
        "question_id": "q2_abs", "question_type": "single-session-user", "question": "What is my cat called?",
        "answer": "You did not say.", "question_date": "2023/05/30 (Tue) 23:40", "answer_session_ids": ["s1"],
        "haystack_session_ids": ["s1"], "haystack_dates": ["2023/05/20 (Sat) 02:21"],
        "haystack_sessions": [[{"role": "user", "content": "Hello."}]],
    },
]  # fmt: skip


def written(folder: Path, data: Any) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_locomo_is_read(tmp_path: Path) -> None:
    [one] = load("locomo", written(tmp_path, LOCOMO))
    assert [(turn.name, turn.run, turn.content) for turn in one.turns] == [
        ("D1:1", "session_1", "Ada: What do you do at weekends?"),
        ("D1:2", "session_1", "Ben: I race pigeons."),
        ("D2:1", "session_2", "Ada: The kiln arrived today."),
    ]
    assert one.turns[0].when is not None
    assert one.turns[0].when.isoformat() == "2023-05-08T13:56:00+00:00"
    assert [(question.category, question.evidence) for question in one.questions] == [
        ("4", {"D1:2"}),
        ("1", {"D2:1", "D1:1"}),
    ]


def test_longmemeval_is_read(tmp_path: Path) -> None:
    [one] = load("longmemeval", written(tmp_path, LONGMEMEVAL))
    assert one.user == "q1"
    assert [(turn.run, turn.role) for turn in one.turns] == [
        ("0/s1", "user"), ("0/s1", "assistant"), ("1/s2", "user"), ("1/s2", "assistant")
    ]  # fmt: skip
    assert one.turns[2].when is not None
    assert one.turns[2].when.isoformat() == "2023-05-21T10:00:00+00:00"
    [question] = one.questions
    assert question.evidence == {"1/s2/0"}


@pytest.mark.parametrize(
    ("dataset", "data"),
    [("locomo", {}), ("locomo", [{"qa": []}]), ("locomo", LONGMEMEVAL), ("longmemeval", LOCOMO), ("other", LOCOMO)],
)
def test_other_files_are_refused(tmp_path: Path, dataset: str, data: Any) -> None:
    with pytest.raises(typer.BadParameter):
        load(dataset, written(tmp_path, data))


def test_the_figures() -> None:
    found, evidence = ["a", "b", "c", "d"], frozenset({"b", "d", "x"})
    assert [_recall(found, evidence, cut) for cut in (1, 2, 4)] == [0, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert _ndcg(["b", "d", "x"], evidence, 10) == pytest.approx(1)
    assert _ndcg(found, evidence, 10) == pytest.approx((0.6309 + 0.4307) / (1 + 0.6309 + 0.5), abs=1e-3)


@pytest.mark.parametrize(("dataset", "data"), [("locomo", LOCOMO), ("longmemeval", LONGMEMEVAL)])
def test_quality_runs_and_compares(tmp_path: Path, dataset: str, data: Any) -> None:
    path, result, plot = written(tmp_path, data), tmp_path / "quality.json", tmp_path / "quality.svg"
    options = ["--path", str(path), "--dataset", dataset, "--json", str(result), "--plot", str(plot)]
    done = CliRunner().invoke(app, ["quality", *options, "--compare", "--leave-one-out"])
    assert done.exit_code == 0, done.output
    found = json.loads(result.read_text())
    assert found["ok"]
    ways = {way["way"]: way for way in found["notes"]["ways"]}
    assert {"default", "vector only", "keywords only", "without neighbours", "without dates"} <= ways.keys()
    assert ways["default"]["recall@5"] == ways["default"]["all@20"] == 1
    assert set(found["notes"]["leave_one_out"]) == {"chosen", "recall@5", "recall@10", "recall@20"}
    assert plot.read_text().startswith("<svg")


@pytest.mark.parametrize(("dataset", "data"), [("locomo", LOCOMO), ("longmemeval", LONGMEMEVAL)])
def test_what_a_prompt_has_room_for(tmp_path: Path, dataset: str, data: Any) -> None:
    path, result = written(tmp_path, data), tmp_path / "context.json"
    done = CliRunner().invoke(app, ["context", "--path", str(path), "--dataset", dataset, "--json", str(result)])
    assert done.exit_code == 0, done.output
    found = json.loads(result.read_text())["notes"]["evidence"]
    assert found == {name: dict.fromkeys(("250", "500", "1000", "2000"), 1) for name in ("context", "ranking cut")}


def test_the_dev_conversations_reach_the_bar(tmp_path: Path) -> None:
    """Needs the data set, which is no part of the project: AGENTMEM_LOCOMO names its file."""
    path = os.environ.get("AGENTMEM_LOCOMO")
    if not path:
        pytest.skip("AGENTMEM_LOCOMO does not name LoCoMo's file")
    result = tmp_path / "quality.json"
    done = CliRunner().invoke(app, ["quality", "--path", path, "--json", str(result)])
    assert done.exit_code == 0, done.output
    [way] = json.loads(result.read_text())["notes"]["ways"]
    for cut, least in ((5, 0.70), (10, 0.80), (20, 0.86)):
        assert way[f"recall@{cut}"] >= least
