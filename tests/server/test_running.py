"""A server in a process of its own: signals, killed workers, TLS, and attacks on its connections."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from conftest import ROOT, HashEmbedder
from served import PROGRAM

from agentmem import Memory
from agentmem.server.keys import KeyStore


class Server:
    """A server that runs, and a key for it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "store"
        keys = KeyStore(self.path)
        self.token = keys.create(user_id="ana", scopes=["read", "write"]).token
        keys.close()
        program = folder / "program.py"
        program.write_text(PROGRAM)
        self.process = subprocess.Popen(
            [sys.executable, str(program), json.dumps({"path": str(self.path), **options})],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        )
        try:
            self._await(options)
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise

    def _await(self, options: dict[str, Any]) -> None:
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.search(r"(https?)://127\.0\.0\.1:(\d+)", self.said)
        assert found, self.said
        self.port = int(found[2])
        self.client = httpx.Client(
            base_url=f"{found[1]}://127.0.0.1:{self.port}",
            headers={"authorization": f"Bearer {self.token}"},
            verify=False if options.get("certificate") else True,
            timeout=30,
        )
        deadline = time.monotonic() + 60
        while True:
            with suppress(httpx.TransportError):
                if self.client.get("/health/ready").status_code == 200:
                    return
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(0.05)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        assert self.process.stdout is not None
        self.process.stdout.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def add(self, content: str) -> str:
        answer = self.client.post("/v1/memories", json={"content": content})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def ask(self, raw: bytes) -> bytes:
        """What comes back on a connection of its own for these bytes, until it is closed."""
        with closing(self.connect()) as connection:
            connection.sendall(raw)
            return received(connection)


def received(connection: socket.socket, seconds: float = 5) -> bytes:
    connection.settimeout(seconds)
    parts = list[bytes]()
    with suppress(ConnectionError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("server"))
    yield found
    found.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def start_(**options: Any) -> Server:
            found = Server(tmp_path, **options)
            stack.callback(found.close)
            return found

        yield start_


def test_it_says_where_it_is_and_who_may_enter(server: Server) -> None:
    assert "to those with a key" in server.said
    assert httpx.get(f"http://127.0.0.1:{server.port}/v1/memories").status_code == 401
    id = server.add("over the wire")
    assert server.client.get(f"/v1/memories/{id}").json()["content"] == "over the wire"
    assert "server" not in server.client.get("/health/live").headers
    assert json.loads(server.client.get("/openapi.json").text)["openapi"].startswith("3.")


SMUGGLED = b"POST /v1/memories HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%sContent-Length: 22\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 0\r\nContent-Length: 5\r\n",
        b"Content-Length: 0, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x5\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: identity, chunked, identity\r\n",
        b"Content-Length: 0\r\nX: a\r\n b\r\nTransfer-Encoding: chunked\r\n",
        b"X: a\nContent-Length: 5\r\n\r\n",
        b"X: \x00\r\n",
        b": nameless\r\n",
    ],
    ids=range(15),
)
def test_no_request_hides_in_anothers_body(server: Server, headers: bytes) -> None:
    before = server.client.get("/v1/memories/count").json()["count"]
    bearer = f"Authorization: Bearer {server.token}\r\n".encode()
    hidden = SMUGGLED % bearer + b'{"content": "smuggled"}'[:22] + b"\r\n"
    first = b"POST /v1/search HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + b"0\r\n\r\n" + hidden
    answer = server.ask(first + b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b" 201 " not in answer.split(b"\r\n")[0]
    assert server.client.get("/v1/memories/count").json()["count"] == before


def test_a_head_that_is_slow_or_has_no_end_is_not_waited_for(server: Server) -> None:
    with closing(server.connect()) as slow, closing(server.connect()) as silent, closing(server.connect()) as endless:
        slow.sendall(b"GET /health/live HTTP/1.1\r\nX-Slow: ")
        began = time.monotonic()
        with suppress(ConnectionError):
            endless.sendall(b"GET /health/live HTTP/1.1\r\n")
            for _ in range(200):
                endless.sendall(b"X-Long: " + b"y" * 65_536 + b"\r\n")
        assert b" 200 " not in received(endless)
        assert received(slow) == b""
        assert received(silent) == b""
        assert time.monotonic() - began < 5
    at_once = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 100_000 + b"\r\n\r\n"
    assert b" 200 " not in server.ask(at_once)
    assert server.client.get("/health/live").status_code == 200


def test_a_body_that_falls_silent_is_given_up(server: Server) -> None:
    with closing(server.connect()) as connection:
        head = f"POST /v1/memories HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        answer = received(connection, 10)
    assert b" 408 " in answer.split(b"\r\n")[0]


def crowd(server: Server, size: int) -> None:
    """Many connections that say nothing, or half of something, and never end it; the rest is served meanwhile."""
    with ExitStack() as stack:
        for number in range(size):
            connection = stack.enter_context(closing(server.connect()))
            if number % 2:
                connection.sendall(b"POST /v1/memories HTTP/1.1\r\nHost: x\r\n")
        began = time.monotonic()
        id = server.add(f"in a crowd of {size}")
        assert server.client.get(f"/v1/memories/{id}").status_code == 200
        assert time.monotonic() - began < 5


def test_a_crowd_that_says_nothing_keeps_nobody_out(server: Server) -> None:
    crowd(server, 400)


@pytest.mark.slow
def test_ten_thousand_that_say_nothing_keep_nobody_out(server: Server) -> None:
    crowd(server, 10_000)


def test_what_is_under_way_is_finished_before_it_ends(start: Callable[..., Server]) -> None:
    server = start()
    body = b'{"content": "said at the last moment"}'
    with closing(server.connect()) as connection:
        head = f"POST /v1/memories HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        connection.sendall(body[:10])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionError):
            server.connect()
        connection.sendall(body[10:])
        answer = received(connection, 10)
    assert b" 201 " in answer.split(b"\r\n")[0]
    assert server.process.wait(20) == 0
    with Memory(server.path, embedder=HashEmbedder()) as memory:
        assert memory.page(user_id="ana").records[0].content == "said at the last moment"


def test_a_store_that_cannot_be_opened_is_said_and_ends_it(tmp_path: Path) -> None:
    (tmp_path / "agentmem.db").write_bytes(b"not a database" * 500)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "agentmem", "serve", "--path", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 3
    assert "the server cannot start" in done.stderr
    assert f"{tmp_path}/agentmem.db" in done.stderr
    assert "Traceback" not in done.stderr


def certificate(folder: Path) -> dict[str, str]:
    """The files of a certificate for this machine, and of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    made = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"certificate": str(folder / "cert.pem"), "private_key": str(folder / "key.pem")}


def test_over_tls(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start(**certificate(tmp_path))
    assert "https://" in server.said
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with context.wrap_socket(server.connect(), server_hostname="localhost") as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
    server.add("in secret")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.port}/health/live")


def test_a_key_of_tls_that_needs_a_passphrase_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    from agentmem import InvalidInputError
    from agentmem.server.running import Options, serve

    files = certificate(tmp_path)
    key = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    sealed = serialization.BestAvailableEncryption(b"secret")
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "key.pem").write_bytes(key.private_bytes(encoding, kind, sealed))
    with pytest.raises(InvalidInputError, match="passphrase"):
        serve(Options(path=str(tmp_path / "store"), **files))


def is_worker(process: psutil.Process) -> bool:
    """Not the process beside them that watches over what they share, nor one that is dead already."""
    with suppress(psutil.Error):
        return "spawn_main" in " ".join(process.cmdline())
    return False


def acknowledged(server: Server, seconds: float, kill_every: float) -> set[str]:
    """The ids of what was added by four writers while workers were killed; what was not acknowledged is not there."""
    ids, ended = set[str](), threading.Event()

    def write(number: int) -> None:
        turn = 0
        with httpx.Client(base_url=server.client.base_url, headers=server.client.headers, timeout=30) as client:
            while not ended.is_set():
                with suppress(httpx.TransportError):
                    answer = client.post("/v1/memories", json={"content": f"writer {number} says {turn}"})
                    if answer.status_code == 201:
                        ids.add(answer.json()["id"])
                turn += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    until, killed = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        time.sleep(kill_every)
        workers = [child for child in psutil.Process(server.process.pid).children() if is_worker(child)]
        if workers:
            workers[killed % len(workers)].kill()
            killed += 1
    ended.set()
    for writer in writers:
        writer.join()
    assert killed
    assert ids
    sys.stdout.write(f"{len(ids)} acknowledged, {killed} workers killed\n")
    return ids


def lost(server: Server, ids: set[str]) -> set[str]:
    """Which of them are not in the store, once the server has ended."""
    server.process.terminate()
    assert server.process.wait(60) == 0
    with Memory(server.path, embedder=HashEmbedder()) as memory:
        assert memory.verify().ok
        return ids - {record.id for record in memory.iterate(user_id="ana")}


MINUTES = float(os.environ.get("AGENTMEM_SERVER_MINUTES", "0.2"))


@pytest.mark.slow
@pytest.mark.timeout(300 + 90 * MINUTES)
def test_killed_workers_lose_nothing_that_was_acknowledged(start: Callable[..., Server]) -> None:
    server = start(workers=2)
    assert not lost(server, acknowledged(server, 60 * MINUTES, 2))
