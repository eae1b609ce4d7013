"""S3 on this machine alone: moto's server with one bucket, in the network of whoever starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

_START_S = 60.0


@contextmanager
def local_s3(url: str, folder: Path) -> Iterator[None]:
    """A server that has the bucket of ``url``, which this process and what it starts ask for ``s3://``.

    ``folder`` is where its log goes. Needs moto[server].
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    log = folder / "s3.log"
    with open(log, "wb") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    known = {
        "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in known}
    try:
        _make_bucket(port, urlsplit(url).netloc, process, log)
        os.environ.update(known)
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        process.terminate()
        process.wait(10)


def _make_bucket(port: int, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while True:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"moto's server did not start: {log.read_text()[-2_000:]}")
        with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("PUT", f"/{name}")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
