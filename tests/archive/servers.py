"""Object stores on loopback for tests: moto for S3, azurite for Azure. Each is a process, gone at the end."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from email.utils import formatdate
from pathlib import Path

import pytest
from archive.faulty import free_port

AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What every installation of azurite has: no secret."""


@contextmanager
def serving(command: list[str], port: int, folder: Path) -> Iterator[int]:
    """A server that listens on the port, while it runs."""
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            for _ in range(600):
                assert process.poll() is None, (folder / "server.log").read_text()
                with suppress(OSError):
                    request(port, "GET", "/")
                    break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def request(
    port: int, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()


@contextmanager
def moto(folder: Path) -> Iterator[int]:
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("moto[server] is not installed")
    port = free_port()
    with serving([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, folder):
        yield port


def s3_bucket(port: int, name: str, *, versioned: bool = False) -> None:
    assert request(port, "PUT", f"/{name}")[0] == 200
    if versioned:
        body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        assert request(port, "PUT", f"/{name}?versioning", body=body)[0] == 200


@contextmanager
def azurite(folder: Path) -> Iterator[int]:
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not on the path (npm install azurite)")
    port = free_port()
    command = [program, "--silent", "--skipApiVersionCheck", "--inMemoryPersistence", "--disableTelemetry"]
    with serving([*command, "--blobHost", "127.0.0.1", "--blobPort", str(port)], port, folder):
        yield port


def azure_container(port: int, name: str) -> None:
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    canonical = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{name}\nrestype:container"
    text = "PUT" + "\n" * 12 + canonical + resource
    signed = hmac.digest(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(signed).decode()}"
    status, body = request(port, "PUT", f"/{AZURE_ACCOUNT}/{name}?restype=container", headers)
    assert status == 201, body


@contextmanager
def cloud(kind: str, folder: Path, *buckets: str) -> Iterator[tuple[str, int]]:
    """A server of that kind with these buckets: the beginning of their URLs, and its port."""
    with moto(folder) if kind == "s3" else azurite(folder) as port:
        for name in buckets:
            s3_bucket(port, name) if kind == "s3" else azure_container(port, name)
        yield "s3://" if kind == "s3" else "az://", port


def environment(kind: str, port: int) -> dict[str, str]:
    """What tells a process where the server is, and who asks."""
    if kind == "s3":
        values = {
            "ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1",
            "ENDPOINT": f"http://127.0.0.1:{port}", "ALLOW_HTTP": "true",
        }  # fmt: skip
        return {f"AWS_{name}": value for name, value in values.items()}
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
        "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}", "AZURE_STORAGE_ALLOW_HTTP": "true",
    }  # fmt: skip
