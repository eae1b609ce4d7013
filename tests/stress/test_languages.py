"""Memories in many languages: every question of the made-up set finds its memory, as it is written and in a hurry."""

# ruff: noqa: RUF001
from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stress.__main__ import app
from stress.languages import DATA, TYPINGS, load, typed


def test_the_questions_find_their_memories(tmp_path: Path) -> None:
    result = tmp_path / "languages.json"
    done = CliRunner().invoke(app, ["languages", "--json", str(result)])
    assert done.exit_code == 0, done.output
    groups = json.loads(result.read_text(encoding="utf-8"))["notes"]["groups"]
    assert len(groups) == 14
    for group, found in groups.items():
        for name, shares in found.items():
            assert shares["@5"] == 1, (group, name)
            assert shares["@1"] >= 0.9, (group, name)


def test_each_memory_of_the_set_is_asked_for() -> None:
    memories, questions = load(DATA)
    assert len(set(memories)) == len(memories)
    assert {one.memory for one in questions} == set(memories)


@pytest.mark.parametrize(
    ("question", "in_a_hurry"),
    [
        ("¿Qué año?", "Que ano?"),
        ("Straße am Fluß", "Strasse am Fluss"),
        ("Işık nerede", "Isik nerede"),
        ("мой ёж", "мой еж"),
        ("הַמַּפְתֵּחַ", "המפתח"),
        ("القَهْوَةَ", "القهوة"),
        ("किताब ग़ायब", "किताब ग़ायब"),
        ("ที่ไหน", "ที่ไหน"),
        ("がっこう 학교", "がっこう 학교"),
    ],
)
def test_how_a_question_is_typed(question: str, in_a_hurry: str) -> None:
    assert typed(question, TYPINGS[0]) == question
    assert typed(question, TYPINGS[1]) == in_a_hurry
