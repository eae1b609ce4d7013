"""Keys of a server: what they allow, how they end, and that nothing but the hash of a secret is kept."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import FakeClock

from agentmem import AgentMemError, ConflictError, InvalidInputError, Memory, NotFoundError, ScopeError, StoreError
from agentmem.errors import AccessDeniedError, InvalidKeyError
from agentmem.server.keys import FILE, KeyStore


@pytest.fixture
def keys(tmp_path: Path, clock: FakeClock):
    found = KeyStore(tmp_path, clock=clock)
    yield found
    found.close()


def test_a_key_says_whose_memories_and_what_for(keys: KeyStore) -> None:
    made = keys.create(user_id="ana", agent_id="coach", namespace=("notes",), scopes=["read", "write"], name="phone")
    key = keys.check(made.token)
    assert (key.id, key.user_id, key.agent_id, key.namespace) == (made.key.id, "ana", "coach", ("notes",))
    assert key.scopes == {"read", "write"}
    key.require("write")
    with pytest.raises(AccessDeniedError, match="scope 'erase'"):
        key.require("erase")
    assert made.token not in repr(made)
    assert made.to_dict()["token"] == made.token


@pytest.mark.parametrize(
    "mangle",
    [
        lambda token: "",
        lambda token: token[:-1],
        lambda token: token + "x",
        lambda token: token.upper(),
        lambda token: token.replace("amk_", "sk_"),
        lambda token: token.split("_")[1],
        lambda token: "amk__" + token.split("_", 2)[2],
        lambda token: "amk_" + "0" * 16 + "_" + token.split("_", 2)[2],
        lambda token: token.replace("a", "а"),  # noqa: RUF001
        lambda token: token + "\0",
        lambda token: token * 1000,
        lambda token: f"amk_{token.split('_')[1]}_",
        lambda token: f"amk_' OR 1=1 --_{token.split('_', 2)[2]}",
    ],
    ids=range(13),
)
def test_what_is_not_quite_a_key_is_refused_without_a_reason(keys: KeyStore, mangle) -> None:
    made = keys.create(user_id="ana", scopes=["read"])
    with pytest.raises(InvalidKeyError, match="not a valid key"):
        keys.check(mangle(made.token))


def test_one_key_does_not_open_with_anothers_secret(keys: KeyStore) -> None:
    one, other = (keys.create(user_id=user, scopes=["read"]) for user in ("ana", "bob"))
    with pytest.raises(InvalidKeyError):
        keys.check(f"amk_{one.key.id}_{other.token.split('_', 2)[2]}")


def test_a_key_ends_when_it_expires(keys: KeyStore, clock: FakeClock) -> None:
    made = keys.create(user_id="ana", scopes=["read"], expires=timedelta(hours=1))
    clock.advance(3599)
    keys.check(made.token)
    clock.advance(1)
    with pytest.raises(InvalidKeyError, match="has expired"):
        keys.check(made.token)


def test_a_key_ends_everywhere_at_once_when_it_is_revoked(keys: KeyStore, tmp_path: Path, clock: FakeClock) -> None:
    other = KeyStore(tmp_path, clock=clock)
    made = keys.create(user_id="ana", scopes=["read"])
    other.check(made.token)
    keys.revoke(made.key.id)
    for one in (keys, other):
        with pytest.raises(InvalidKeyError, match="was revoked"):
            one.check(made.token)
    clock.advance(60)
    assert keys.revoke(made.key.id).revoked_at == clock.now - timedelta(seconds=60)
    other.close()


def test_rotation_gives_the_same_walls_and_ends_the_old_key(keys: KeyStore, clock: FakeClock) -> None:
    old = keys.create(user_id="ana", namespace=["a", "b"], scopes=["read"], expires=timedelta(days=90), per_minute=7)
    new = keys.rotate(old.key.id, overlap=timedelta(minutes=5))
    walls = ("user_id", "any_user", "agent_id", "namespace", "scopes", "per_minute", "expires_at")
    assert all(getattr(new.key, wall) == getattr(old.key, wall) for wall in walls)
    assert keys.check(old.token).id != keys.check(new.token).id
    clock.advance(300)
    with pytest.raises(InvalidKeyError):
        keys.check(old.token)
    keys.check(new.token)
    for id in (old.key.id, keys.revoke(new.key.id).id):
        with pytest.raises(ConflictError):
            keys.rotate(id)


def test_a_key_that_is_being_replaced_is_not_rotated_again(keys: KeyStore) -> None:
    old = keys.create(user_id="ana", scopes=["read"])
    keys.rotate(old.key.id, overlap=timedelta(hours=1))
    with pytest.raises(ConflictError):
        keys.rotate(old.key.id)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"scopes": []}, InvalidInputError),
        ({"scopes": ["root"]}, InvalidInputError),
        ({"scopes": ["admin"]}, InvalidInputError),
        ({"scopes": ["admin"], "user_id": "ana"}, InvalidInputError),
        ({"scopes": ["admin"], "any_user": True, "agent_id": "x"}, InvalidInputError),
        ({"scopes": ["read"], "user_id": "ana", "any_user": True}, InvalidInputError),
        ({"scopes": ["read"], "user_id": ""}, ScopeError),
        ({"scopes": ["read"], "user_id": "a\0b"}, ScopeError),
        ({"scopes": ["read"], "user_id": "ana", "expires": timedelta(0)}, InvalidInputError),
        ({"scopes": ["read"], "expires": datetime(2020, 1, 1, tzinfo=UTC)}, InvalidInputError),
        ({"scopes": ["read"], "expires": timedelta.max}, InvalidInputError),
        ({"scopes": ["read"], "per_minute": 0}, InvalidInputError),
    ],
    ids=range(12),
)
def test_what_makes_no_sense_makes_no_key(keys: KeyStore, arguments, error) -> None:
    with pytest.raises(error):
        keys.create(**arguments)
    assert keys.list() == []
    assert not keys.required


def test_unknown_keys_are_named(keys: KeyStore) -> None:
    for call in (keys.revoke, keys.rotate):
        with pytest.raises(NotFoundError, match="no key 'none'"):
            call("none")


def test_the_file_holds_no_secret_and_is_its_owners_alone(keys: KeyStore, tmp_path: Path) -> None:
    made = keys.create(user_id="ana", scopes=["read"])
    keys.check(made.token)
    files = list(tmp_path.glob(f"{FILE}*"))
    assert files
    secret = made.token.split("_", 2)[2].encode()
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
        assert secret not in file.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 12_345)
    keys = KeyStore(tmp_path)
    keys.check(keys.create(user_id="ana", scopes=["read"]).token)
    assert {(file.name, file.stat().st_uid) for file in tmp_path.glob(f"{FILE}*")} >= {(FILE, 12_345)}
    assert {file.stat().st_uid for file in tmp_path.iterdir()} == {12_345}
    keys.close()


def test_last_use_is_known(keys: KeyStore, clock: FakeClock) -> None:
    made = keys.create(user_id="ana", scopes=["read"])
    assert keys.list()[0].used_at is None
    clock.advance(5)
    keys.check(made.token)
    assert keys.list()[0].used_at == clock.now


def test_an_erased_user_has_no_key_and_no_name_left(keys: KeyStore, tmp_path: Path) -> None:
    made = keys.create(user_id="Zoë-the-erased", scopes=["read"], name="zoes phone")
    keys.check(made.token)
    kept = keys.create(user_id="bob", scopes=["read"])
    keys.record("erase", actor=kept.key.id, user_id="Zoë-the-erased")
    assert keys.forget_user("Zoe\u0308-the-erased") == 1
    with pytest.raises(InvalidKeyError, match="not a valid key"):
        keys.check(made.token)
    keys.check(kept.token)
    for file in tmp_path.glob(f"{FILE}*"):
        held = file.read_bytes()
        assert b"the-erased" not in held
        assert b"zoes phone" not in held
    assert [act.user_id for act in keys.audit()] == [None, "bob", None]


def test_the_audit_log_says_who_did_what(keys: KeyStore) -> None:
    boss = keys.create(any_user=True, scopes=["admin"])
    made = keys.create(user_id="ana", scopes=["read"], actor=boss.key.id)
    keys.revoke(made.key.id, actor=boss.key.id)
    acts = [(act.act, act.actor, act.target, act.user_id) for act in keys.audit()]
    assert acts == [
        ("key.create", None, boss.key.id, None),
        ("key.create", boss.key.id, made.key.id, "ana"),
        ("key.revoke", boss.key.id, made.key.id, "ana"),
    ]
    assert [act.seq for act in keys.audit(after=1, limit=1)] == [2]


def test_once_there_was_a_key_one_is_required(keys: KeyStore) -> None:
    assert not keys.required
    made = keys.create(user_id="ana", scopes=["read"])
    keys.revoke(made.key.id)
    keys.forget_user("ana")
    assert keys.required


def test_keys_that_were_deleted_with_their_file_open_nothing(keys: KeyStore, tmp_path: Path) -> None:
    made = keys.create(user_id="ana", scopes=["read"])
    keys.check(made.token)
    for file in tmp_path.glob(f"{FILE}*"):
        file.unlink()
    time.sleep(0.03)  # what was read holds for a moment
    assert keys.required
    with pytest.raises(StoreError, match="gone"):  # the key may be good: this is not the caller's fault
        keys.check(made.token)
    assert not list(tmp_path.glob(f"{FILE}*"))
    again = keys.create(user_id="ana", scopes=["read"])
    keys.check(again.token)
    with pytest.raises(InvalidKeyError):
        keys.check(made.token)


def test_a_file_that_is_no_list_of_keys_is_an_error_of_ours(keys: KeyStore, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 100)
    for call in (lambda: keys.check("amk_00_00"), lambda: keys.create(scopes=["read"])):
        with pytest.raises(StoreError):
            call()
    with pytest.raises(StoreError):
        KeyStore(tmp_path / FILE).create(scopes=["read"])


def test_what_a_key_sees_is_what_lies_behind_its_wall(keys: KeyStore, memory: Memory) -> None:
    for user in ("ana", "bob", None):
        memory.add(f"of {user}", user_id=user, agent_id="coach")
    memory.add("of ana elsewhere", user_id="ana")

    def seen(user_id: str | None = None, **wall) -> set[str]:
        key = keys.create(scopes=["read"], **wall).key
        return {record.content for record in key.view(memory, user_id).page().records}

    assert seen(user_id=None, any_user=False) == {"of None"}
    assert seen("ana", any_user=True) == {"of ana", "of ana elsewhere"}
    assert seen("ana", any_user=True, agent_id="coach") == {"of ana"}
    assert seen(any_user=True) == {"of None"}
    assert seen(agent_id="coach") == {"of None"}
    ana = keys.create(user_id="ana", scopes=["read"]).key
    assert len(ana.view(memory).page().records) == len(ana.view(memory, "ana").page().records) == 2
    for key in (ana, keys.create(scopes=["read"]).key):
        with pytest.raises(AccessDeniedError):
            key.view(memory, "bob")
        with pytest.raises(AgentMemError):
            key.view(memory).page(user_id="bob")


def test_several_processes_make_keys_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from agentmem.server.keys import KeyStore\n"
        "keys = KeyStore(sys.argv[1])\n"
        "for _ in range(10): keys.check(keys.create(user_id='ana', scopes=['read']).token)\n"
        "keys.close()"
    )
    started = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    keys = KeyStore(tmp_path)
    assert len(keys.list()) == 30
    assert all(key.used_at for key in keys.list())
    keys.close()
    with sqlite3.connect(tmp_path / FILE) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_threads_share_one(keys: KeyStore) -> None:
    tokens = [keys.create(user_id="ana", scopes=["read"]).token for _ in range(3)]
    failed = list[Exception]()

    def work(token: str) -> None:
        try:
            for turn in range(30):
                keys.check(token)
                if turn % 10 == 0:
                    keys.flush()
        except Exception as exc:
            failed.append(exc)

    threads = [threading.Thread(target=work, args=(token,)) for token in tokens * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_forked_process_reads_by_itself(keys: KeyStore) -> None:
    made = keys.create(user_id="ana", scopes=["read"])
    keys.check(made.token)
    child = os.fork()
    if child == 0:
        try:
            keys.check(made.token)
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    keys.check(made.token)


def test_no_restore_brings_a_revoked_key_back(keys: KeyStore, tmp_path: Path, embedder) -> None:
    with Memory(tmp_path, settings=None, embedder=embedder) as memory:
        memory.add("something")
        made = keys.create(user_id="ana", scopes=["read"])
        memory.export(tmp_path / "away")
        keys.revoke(made.key.id)
    from agentmem import restore

    restore(tmp_path / "away", tmp_path / "again", embedder=embedder)
    assert not (tmp_path / "again" / FILE).exists()
    with pytest.raises(InvalidKeyError):
        KeyStore(tmp_path / "again").check(made.token)


def test_of_many_keys_those_that_matter_come_first(keys: KeyStore, clock: FakeClock) -> None:
    boss = keys.create(any_user=True, scopes=["admin"]).key.id
    ended = keys.create(any_user=True, scopes=["read"]).key.id
    clock.advance(1)
    short = keys.create(user_id="Zoe\u0308", scopes=["read"], expires=timedelta(days=1)).key.id
    clock.advance(1)
    held = keys.create(user_id="Zo\u00eb", scopes=["read"], expires=timedelta(days=90)).key.id
    keys.revoke(ended)
    clock.advance(2 * 86_400)
    keys.create(user_id="user-1", scopes=["read"])
    clock.advance(1)
    newest = keys.create(user_id="user-2", scopes=["read"]).key.id
    assert [key.id for key in keys.list(limit=2)] == [boss, newest]
    assert [key.id for key in keys.list(limit=100)][-3:] == [held, ended, short]
    assert [key.id for key in keys.list(user_id="Zo\u00eb")] == [short, held]
    assert keys.list(user_id="nobody", limit=5) == []
    assert [act.target for act in keys.audit(limit=1, newest=True)] == [newest]


@pytest.mark.parametrize("off", [timedelta(hours=1), timedelta(days=365)], ids=["hour", "year"])
@pytest.mark.parametrize("ended", ["revoked", "rotated"])
@pytest.mark.parametrize("ahead", [True, False], ids=["ahead", "behind"])
def test_no_clock_brings_back_a_key_that_was_ended(
    keys: KeyStore, clock: FakeClock, off: timedelta, ended: str, ahead: bool
) -> None:
    old = keys.create(user_id="ana", scopes=["read"])
    right = clock.now
    if ahead:
        clock.now = right + off
    if ended == "revoked":
        keys.revoke(old.key.id)
    else:
        new = keys.rotate(old.key.id)
    clock.now = right if ahead else right - off
    with pytest.raises(InvalidKeyError, match="was revoked"):
        keys.check(old.token)
    with pytest.raises(InvalidKeyError, match="was revoked"):
        keys.still(old.key.id)
    if ended == "rotated":
        assert keys.check(new.token).id == new.key.id
    else:
        assert keys.list(limit=5)[-1].id == old.key.id
        keys.create(user_id="ana", scopes=["read"])
        assert keys.list(limit=5)[-1].id == old.key.id


def test_a_key_that_is_being_replaced_can_be_ended_while_the_clock_is_wrong(keys: KeyStore, clock: FakeClock) -> None:
    old = keys.create(user_id="ana", scopes=["read"])
    keys.rotate(old.key.id, overlap=timedelta(hours=1))
    keys.check(old.token)
    clock.now += timedelta(days=1)
    keys.revoke(old.key.id)
    clock.now -= timedelta(days=1)
    with pytest.raises(InvalidKeyError, match="was revoked"):
        keys.check(old.token)


@pytest.mark.parametrize("overlap", [timedelta.max, timedelta(days=365 * 9_000)], ids=["max", "long"])
def test_an_overlap_beyond_the_calendar_is_refused(keys: KeyStore, overlap: timedelta) -> None:
    old = keys.create(user_id="ana", scopes=["read"])
    with pytest.raises(InvalidInputError, match="overlap"):
        keys.rotate(old.key.id, overlap=overlap)
    assert [key.revoked_at for key in keys.list()] == [None]
    keys.check(old.token)
