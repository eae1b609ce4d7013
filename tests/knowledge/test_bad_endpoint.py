"""An endpoint that misbehaves in every way: nothing lost, nothing invented stored, no cap exceeded, nothing silent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import FakeClock, HashEmbedder
from scripted_endpoint import Answer, Handler, Server, drip, likes, operation, serving, shown

from agentmem import Memory, Settings
from agentmem.knowledge.endpoint import EndpointModel

CAP = 60_000
THINGS = ("tea", "rain", "boats", "chess")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory, server: Server, clock: FakeClock) -> Iterator[Memory]:
    chosen = {
        "model": "m", "url": server.url, "timeout_s": 0.6, "max_output_tokens": 500, "max_run_tokens": CAP,
        "max_input_tokens": 9_000, "max_user_day_tokens": None, "max_day_tokens": None,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("bad")
    with Memory(folder, embedder=HashEmbedder(), clock=clock, settings=Settings(consolidation=chosen)) as memory:
        yield memory


def first(asked: dict[str, Any], **said: Any) -> dict[str, Any]:
    """An operation that cites the first message as it is."""
    message = shown(asked)[1][0]
    return operation(evidence=[{"message": message["id"], "quote": message["text"]}], **said)


def silent(handler: Handler, asked: dict[str, Any]) -> None:
    time.sleep(0.9)


def broken_off(handler: Handler, asked: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "1", "choices": [')
    handler.close_connection = True


def without_schema(handler: Handler, asked: dict[str, Any]) -> None:
    if "response_format" in asked:
        handler.send({"error": {"message": "response_format json_schema is not supported"}}, 400)
    else:
        handler.say("```json\n" + str({"operations": []}).replace("'", '"') + "\n```")


def as_it_is(handler: Handler, body: bytes, kind: str, status: int = 200, **headers: str) -> None:
    """Anything, as what it is."""
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


INVALID: dict[str, Answer] = {
    "no json": lambda h, a: h.say("Sure! Here are the facts you asked for."),
    "half json": lambda h, a: h.say('{"operations": [{"op": "ADD", "text": "Likes'),
    "cut at max_tokens": lambda h, a: h.say(likes(a), finish="length"),
    "empty": lambda h, a: h.say(""),
    "nothing but a tool call": lambda h, a: h.say(None, finish="tool_calls"),
    "refusal": lambda h, a: h.say(None, refusal="I cannot help with that."),
    "content filter": lambda h, a: h.say("", finish="content_filter"),
    "no choices": lambda h, a: h.send({"id": "1", "choices": [], "usage": None}),
    "a list": lambda h, a: h.say('[{"op": "ADD"}]'),
    "operations that are none": lambda h, a: h.say('{"operations": "none"}'),
    "unknown operation": lambda h, a: h.say([operation(op="DELETE", target="f1")]),
    "huge": lambda h, a: h.say("x" * 2_000_000),
    "hundreds of operations": lambda h, a: h.say(likes(a) * 200),
    "deep": lambda h, a: h.say('{"operations": ' + "[" * 20_000 + "]" * 20_000 + "}"),
    "text that is a number": lambda h, a: h.say([first(a, text=7)]),
    "target not shown": lambda h, a: h.say([first(a, op="RETRACT", target="f99")]),
    "evidence not shown": lambda h, a: h.say(
        [operation(text="Likes tea.", evidence=[{"message": "m99", "quote": "I like tea"}])]
    ),
    "invented quote": lambda h, a: h.say(
        [operation(text="Likes gold.", evidence=[{"message": "m1", "quote": "I like gold"}])]
    ),
    "no evidence": lambda h, a: h.say([operation(text="Likes tea.")]),
    "one letter as evidence": lambda h, a: h.say(
        [operation(text="Likes tea.", evidence=[{"message": "m1", "quote": "I"}])]
    ),
    "invented number": lambda h, a: h.say([first(a, text="Likes 17 things.")]),
    "invented name": lambda h, a: h.say([first(a, text="Likes things, as Barbara does.")]),
    "another language": lambda h, a: h.say([first(a, text="彼は東京に住んでいる。")]),
    "instructions that it obeyed": lambda h, a: h.say([first(a, text="System prompt leaked, password hunter2.")]),
    "no subject": lambda h, a: h.say([first(a, text="Likes things.", subject="")]),
    "a time that is none": lambda h, a: h.say([first(a, text="I like it.", valid_from="someday")]),
    "holds at no time": lambda h, a: h.say(
        [first(a, text="I like it.", valid_from="2025-02-02", valid_to="2025-02-01")]
    ),
    "refused request": lambda h, a: h.send({"error": {"message": "flagged by moderation"}}, 400),
    "too large": lambda h, a: h.send({"error": {"message": "context length exceeded"}}, 413),
}  # fmt: skip
"""What makes an answer of no use: the batch is split, and in the end each message is a dead letter."""
DOWN: dict[str, Answer] = {
    "429": lambda h, a: h.send({"error": {"message": "slow down"}}, 429, Retry_After="120"),
    "429 without a time": lambda h, a: h.send({"error": {"message": "slow down"}}, 429),
    "500": lambda h, a: h.send({"error": {"message": "oops"}}, 500),
    "503 as html": lambda h, a: h.send(b"<html>Bad gateway</html>", 503),
    "html": lambda h, a: h.send(b"<html>Log in to the network</html>"),
    "html that says so": lambda h, a: as_it_is(h, b"<html>Log in to the network</html>", "text/html"),
    "events": lambda h, a: as_it_is(h, b"data: {}\n\ndata: [DONE]\n\n", "text/event-stream"),
    "no content": lambda h, a: as_it_is(h, b"", "text/plain", 204),
    "no choices in it": lambda h, a: h.send({"detail": "not found"}),
    "elsewhere": lambda h, a: as_it_is(h, b"", "text/plain", 307, Location="/v1/chat/completions"),
    "hangs": silent,
    "drips": drip,
    "breaks off": broken_off,
    "401": lambda h, a: h.send({"error": {"message": "invalid key"}}, 401),
    "404": lambda h, a: h.send({"error": {"message": "no such model"}}, 404),
}
"""What makes the endpoint be left alone for a while: nothing is split, nothing given up."""


def facts(memory: Memory, user: str) -> list[str]:
    return sorted(one.content for one in memory.iterate(user_id=user, kinds=["fact"]))


@pytest.mark.parametrize("kind", [*INVALID, *DOWN])
def test_an_endpoint_that_misbehaves(memory: Memory, server: Server, clock: FakeClock, kind: str) -> None:
    server.reset()
    memory.add_many([{"role": "user", "content": f"I like {thing}."} for thing in THINGS], user_id=kind)
    consolidation = memory.consolidation(user_id=kind)
    server.answer = {**INVALID, **DOWN}[kind]
    report = consolidation.run()
    assert facts(memory, kind) == []
    assert report.failures
    assert report.spend.tokens <= CAP
    assert report.spend.tokens >= server.tokens
    assert all(asked["max_tokens"] == 500 for asked in server.asked)
    questions = [repr(asked["messages"]) for asked in server.asked]
    state = consolidation.state()
    if kind in INVALID:
        assert (report.status, report.dead, state.waiting) == ("done", 4, 0)
        assert len(questions) == len(set(questions)) == 7, "4 together, 2 pairs, 4 alone, none of them twice"
        assert all(letter.why for letter in state.dead)
    else:
        assert report.status in ("closed", "denied")
        assert (report.dead, state.waiting) == (0, 4)
        assert len(questions) <= 3
        asked = len(server.asked)
        if report.status == "closed":
            assert consolidation.run().status == "closed"
            assert len(server.asked) == asked, "it is left alone"
    server.reset()
    clock.advance(3_600)
    if kind in INVALID:
        assert memory.consolidation(user_id=kind).run().status == "done"
        assert server.asked == []
        consolidation = memory.consolidation(user_id=kind, model=EndpointModel("other", url=server.url))
        assert consolidation.retry() == 4
    again = consolidation.run()
    assert (again.status, again.added, again.messages) == ("done", 4, 4)
    assert facts(memory, kind) == sorted(f"Likes {thing}." for thing in THINGS)
    assert consolidation.run().messages == 0
    spent = consolidation.spend()
    assert sum(day.spend.tokens for day in spent) == report.spend.tokens + again.spend.tokens


def test_a_part_of_an_answer_is_taken(memory: Memory, server: Server) -> None:
    server.reset()
    memory.add_many([{"role": "user", "content": f"I like {thing}."} for thing in THINGS], user_id="part")
    wrong = operation(text="Likes gold.", evidence=[{"message": "m1", "quote": "I like gold"}])
    server.answer = lambda handler, asked: handler.say([*likes(asked), wrong])
    report = memory.consolidation(user_id="part").run()
    assert (report.added, [one.why for one in report.refused]) == (4, ["a quote is not in its source"])
    assert len(facts(memory, "part")) == 4


def test_an_endpoint_without_json_schema(memory: Memory, server: Server) -> None:
    server.reset()
    memory.add({"role": "user", "content": "I like tea."}, user_id="plain")
    server.answer = without_schema
    report = memory.consolidation(user_id="plain").run()
    assert (report.status, report.messages, len(server.asked), report.spend.calls) == ("done", 1, 2, 2)


@pytest.mark.parametrize(
    "around", ["<think>Tea, or [x]?</think>\n\n{}", "Here it is:\n```json\n{}\n```\nDone.", "```\n{}\n```"]
)
def test_what_is_around_an_answer(memory: Memory, server: Server, around: str) -> None:
    server.reset()
    memory.add({"role": "user", "content": "I like tea."}, user_id=around)
    server.answer = lambda handler, asked: handler.say(around.replace("{}", json.dumps({"operations": likes(asked)})))
    assert memory.consolidation(user_id=around).run().added == 1


def test_an_endpoint_with_other_names(memory: Memory, server: Server) -> None:
    server.reset()
    memory.add({"role": "user", "content": "I like tea."}, user_id="names")

    def strict(handler: Handler, asked: dict[str, Any]) -> None:
        if "max_tokens" in asked:
            handler.send({"error": {"message": "use 'max_completion_tokens' instead of 'max_tokens'"}}, 400)
        elif "temperature" in asked:
            handler.send({"error": {"message": "'temperature' does not support 0"}}, 400)
        else:
            handler.say(likes(asked))

    server.answer = strict
    report = memory.consolidation(user_id="names").run()
    assert (report.added, report.spend.calls, len(server.asked)) == (1, 1, 3)
    assert server.asked[-1]["max_completion_tokens"] == 500
    assert "response_format" in server.asked[-1]


def test_usage_that_is_not_told_is_what_was_reserved(memory: Memory, server: Server) -> None:
    server.reset()
    memory.add({"role": "user", "content": "I like tea."}, user_id="untold")
    server.answer = lambda handler, asked: handler.say(likes(asked), usage=None)
    report = memory.consolidation(user_id="untold").run()
    assert report.added == 1
    assert report.spend.output_tokens == 500
    assert report.spend.input_tokens > 2_000


def test_an_answer_that_cost_more_than_it_may_stops_the_run(memory: Memory, server: Server) -> None:
    server.reset()
    memory.add_many([{"role": "user", "content": f"I like {thing}."} for thing in THINGS], user_id="over")
    server.answer = lambda handler, asked: handler.say("no json", usage=(100_000, 1))
    report = memory.consolidation(user_id="over").run()
    assert (report.status, report.spend.calls, len(server.asked)) == ("overrun", 1, 1)


def test_nothing_answers(memory: Memory) -> None:
    memory.add({"role": "user", "content": "I like tea."}, user_id="nobody")
    model = EndpointModel("m", url="http://127.0.0.1:9/v1")
    report = memory.consolidation(user_id="nobody", model=model).run()
    assert (report.status, report.spend.tokens, report.spend.calls) == ("closed", 0, 3)
