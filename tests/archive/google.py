"""As much of Google's object storage, its XML interface, as objects need; in memory, on loopback.

The emulators that can be installed either send no ETag or refuse the upload that obstore makes.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from archive.faulty import Server, read_body

DATE = "Thu, 26 Nov 2026 07:00:00 GMT"


class FakeGoogle:
    """One server with any bucket in ``buckets``; ``versioned`` ones give back what was deleted, by its generation."""

    def __init__(self, *buckets: str, versioned: tuple[str, ...] = ()) -> None:
        self.objects = {name: dict[str, tuple[int, bytes, dict[str, str]]]() for name in (*buckets, *versioned)}
        self.old = dict[tuple[str, str, int], tuple[int, bytes, dict[str, str]]]()
        self.versioned = versioned
        self.uploads = dict[str, tuple[dict[str, str], dict[int, bytes]]]()
        self.generation = 1_700_000_000_000_000
        self.lock = threading.Lock()
        google = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return lambda: google.answer(self)
                raise AttributeError(name)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body, parts = read_body(request), urlsplit(request.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        with self.lock:
            if bucket not in self.objects:
                status, headers, data = 404, {}, b"<Error><Code>NoSuchBucket</Code></Error>"
            elif not key:
                status, headers, data = self.listed(bucket, query)
            else:
                status, headers, data = self.one(request, bucket, key, query, body)
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)

    def listed(self, bucket: str, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        after = query.get("continuation-token") or query.get("start-after", "")
        keys = sorted(k for k in self.objects[bucket] if k.startswith(query.get("prefix", "")) and k > after)
        page = keys[: int(query.get("max-keys", 1_000))]
        text = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{len(self.objects[bucket][k][1])}</Size>"
            f"<LastModified>2026-11-26T07:00:00.000Z</LastModified><ETag>{etag(self.objects[bucket][k])}</ETag>"
            f"<Generation>{self.objects[bucket][k][0]}</Generation></Contents>"
            for k in page
        )
        if len(page) < len(keys):
            text += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        return 200, {}, f"<ListBucketResult>{text}</ListBucketResult>".encode()

    def one(
        self, request: BaseHTTPRequestHandler, bucket: str, key: str, query: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        objects, method = self.objects[bucket], request.command
        now = objects.get(key)
        if method == "POST" and "uploads" in query:
            name = f"upload-{len(self.uploads)}"
            self.uploads[name] = meta_of(request), {}
            return (
                200,
                {},
                f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>".encode(),
            )
        if "uploadId" in query:
            name = query["uploadId"]
            if name not in self.uploads:
                return 404, {}, b"<Error><Code>NoSuchUpload</Code></Error>"
            if method == "PUT":
                self.uploads[name][1][int(query["partNumber"])] = body
                return 200, {"ETag": f'"part-{query["partNumber"]}"'}, b""
            meta, pieces = self.uploads.pop(name)
            if method == "DELETE":
                return 204, {}, b""
            made = self.put(bucket, key, b"".join(pieces[n] for n in sorted(pieces)), meta)
            text = f"<CompleteMultipartUploadResult><ETag>{etag(made)}</ETag></CompleteMultipartUploadResult>"
            return 200, {"x-goog-generation": str(made[0])}, text.encode()
        if method == "PUT":
            wanted = request.headers.get("x-goog-if-generation-match")
            if wanted is not None and int(wanted) != (now[0] if now else 0):
                return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
            made = self.put(bucket, key, body, meta_of(request))
            return 200, {"ETag": etag(made), "x-goog-generation": str(made[0])}, b""
        if "generation" in query and (now is None or now[0] != int(query["generation"])):
            now = self.old.get((bucket, key, int(query["generation"])))
        if now is None:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        if method == "DELETE":
            if bucket in self.versioned:
                self.old[bucket, key, now[0]] = now
            del objects[key]
            return 204, {}, b""
        headers = {"ETag": etag(now), "x-goog-generation": str(now[0]), "Last-Modified": DATE, **now[2]}
        if method == "HEAD":
            return 200, headers | {"Content-Length": str(len(now[1]))}, b""
        found = request.headers.get("Range")
        if found is None:
            return 200, headers, now[1]
        start, _, last = found.removeprefix("bytes=").partition("-")
        if int(start) >= len(now[1]):
            return 416, {}, b"<Error><Code>InvalidRange</Code></Error>"
        end = min(int(last) + 1, len(now[1]))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(now[1])}"
        return 206, headers, now[1][int(start) : end]

    def put(self, bucket: str, key: str, body: bytes, meta: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        self.generation += 1
        self.objects[bucket][key] = self.generation, body, meta
        return self.objects[bucket][key]


def etag(found: tuple[int, bytes, dict[str, str]]) -> str:
    return f'"{found[0]:x}"'


def meta_of(request: BaseHTTPRequestHandler) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.lower().startswith("x-goog-meta-")}
