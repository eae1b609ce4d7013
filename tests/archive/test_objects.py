"""Objects in a folder and in buckets of three kinds: one contract, and what is peculiar to each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from archive.faulty import Faulty, between
from archive.google import FakeGoogle
from archive.killed import unfinished
from archive.servers import AZURE_ACCOUNT, AZURE_KEY, azure_container, azurite, moto, s3_bucket
from contracts.objects import BucketContract, ObjectsContract

from agentmem.archive.folder import FolderObjects
from agentmem.archive.objects import Objects
from agentmem.archive.opening import open_objects
from agentmem.archive.retries import Retries
from agentmem.types.errors import (
    ArchiveAccessError,
    ArchiveError,
    DiskFullError,
    InvalidInputError,
    ObjectExistsError,
    ObjectNotFoundError,
)

BUCKET = "memories"
AWS = {"access_key_id": "any", "secret_access_key": "secret", "region": "us-east-1"}


def s3(port: int, bucket: str, retries: Retries | None = None) -> Objects:
    return open_objects(f"s3://{bucket}/some/where", AWS | {"endpoint": f"http://127.0.0.1:{port}"}, retries=retries)


class TestFolder(ObjectsContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], Objects]:
        return lambda: open_objects(str(tmp_path / "not" / "yet"))

    def test_file_urls(self, tmp_path: Path) -> None:
        open_objects(f"file://{tmp_path}/with%20blank").create("a", b"1")
        assert (tmp_path / "with blank" / "a").read_bytes() == b"1"

    def test_what_is_not_an_object_is_left_alone(self, objects: Objects, tmp_path: Path) -> None:
        objects.create("a/b", b"1")
        root = tmp_path / "not" / "yet"
        (root / ".hidden").write_text("")
        (root / "a" / ".DS_Store").write_text("")
        (root / "README.txt").write_text("")
        assert self.keys(objects) == ["a/b"]

    def test_a_file_system_without_links(self, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "link", refuse)
        objects.create("a", b"1")
        with pytest.raises(ObjectExistsError):
            objects.create("a", b"2")
        self.test_of_many_creators_one_succeeds(lambda: FolderObjects(objects.url))

    @pytest.mark.parametrize(("number", "error"), [(28, DiskFullError), (13, ArchiveAccessError), (22, ArchiveError)])
    def test_errors_of_the_system(
        self, objects: Objects, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
    ) -> None:
        stamp = objects.create("a", b"1")

        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            for call in (
                lambda: objects.create("b", b"1"),
                lambda: objects.upload("b", [b"1"]),
                lambda: objects.swap("a", b"1", stamp),
            ):
                with pytest.raises(error, match="cannot"):
                    call()
        assert self.keys(objects) == ["a"]
        assert not list(Path(objects.url).rglob(".new*"))

    def test_a_full_disk(self, tmp_path: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full here")
        objects = FolderObjects(tmp_path)
        code = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        code += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        code += "from agentmem.archive.folder import FolderObjects;"
        code += f"FolderObjects({str(tmp_path)!r}).create('a', b'x' * 200_000)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "ArchiveError: cannot write" in done.stderr
        assert list(tmp_path.iterdir()) == []
        objects.create("a", b"1")

    def test_nothing_is_seen_of_a_writer_that_was_killed(self, objects: Objects) -> None:
        root = Path(objects.url)
        stamp = objects.create("head", b"old" * 1_000_000)
        writer = (
            "import sys; from agentmem.archive.folder import FolderObjects\n"
            f"objects, stamp, n = FolderObjects({objects.url!r}), sys.argv[1], 0\n"
            "print(flush=True)\n"
            "while True:\n"
            "    n += 1\n"
            "    objects.create(f'new/{n}', bytes([n % 256]) * 3_000_000)\n"
            "    stamp = objects.swap('head', bytes([n % 256]) * 3_000_000, stamp)\n"
        )
        for pause in (0.005, 0.02, 0.03, 0.05, 0.08):
            process = subprocess.Popen([sys.executable, "-c", writer, stamp], stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            for found in objects.list():
                data = objects.get(found.key).data
                assert len(data) == found.size == 3_000_000
                assert found.key == "head" or len(set(data)) == 1
                if found.key != "head":
                    objects.delete(found.key)
            data, stamp = objects.get("head")
            assert len(set(data)) == 1 or data == b"old" * 1_000_000
            stamp = objects.swap("head", data, stamp)  # no lock was left
        for left in root.rglob(".new*"):
            os.utime(left, (1, 1))
        FolderObjects(root).create("last", b"")
        assert not list(root.rglob(".new*"))

    def test_what_a_killed_writer_had_not_finished_goes_at_once_and_nothing_of_a_living_one(
        self, objects: Objects, other: Objects
    ) -> None:
        root = Path(objects.url)
        objects.create("a/there", b"1")
        left = unfinished(objects, "a/b/dead", b"secret")
        (linked := root / "a" / "b" / left.name.replace("held-", "held-0")).write_bytes(b"in place, and aside as well")
        os.link(linked, root / "a" / "b" / "linked")

        def chunks() -> Iterator[bytes]:
            yield b"living, "
            other.sweep()
            yield b"and done"

        objects.upload("a/b/living", chunks())
        assert not list(root.rglob(".new*"))
        assert self.keys(objects) == ["a/b/linked", "a/b/living", "a/there"]
        assert objects.get("a/b/living").data == b"living, and done"
        assert other.get("a/b/linked").data == b"in place, and aside as well"

    def test_a_folder_is_swept_alone(self, objects: Objects) -> None:
        left = unfinished(objects, "a/b/c", b"secret")
        lefts = [left.parents[n] / folder / left.name for n, folder in ((1, "."), (2, "ab"), (0, "."))]
        for path in lefts[:2]:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(left.read_bytes())
        objects.sweep("a")
        assert [left.exists() for left in lefts] == [False, True, False]
        objects.sweep("nothing/here")
        FolderObjects(Path(objects.url) / "nor" / "here").sweep()

    @pytest.mark.parametrize("without", ["locks", "trust"])
    def test_without_locks_a_writer_counts_as_alive_for_a_day(
        self, objects: Objects, monkeypatch: pytest.MonkeyPatch, without: str
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(37, "No locks available")

        if without == "locks":
            monkeypatch.setattr("fcntl.flock", refuse)
        else:
            monkeypatch.setattr("agentmem.archive.folder.network_filesystem", lambda _: ("nfs4", "/"))
        root = Path(objects.url)

        def chunks() -> Iterator[bytes]:
            yield b"1"
            objects.sweep()
            assert len(list(root.rglob(".new*"))) == 1
            yield b"2"

        objects.upload("a", chunks())
        assert (objects.get("a").data, list(root.rglob(".new*"))) == (b"12", [])
        (left := root / ".new-0123").write_bytes(b"secret")
        objects.sweep()
        assert left.exists()
        for when in (1, time.time() + 365 * 86_400):  # a year ago, or written while the clock was ahead
            left.write_bytes(b"secret")
            os.utime(left, (when, when))
            objects.sweep()
            assert not left.exists()

    def test_what_cannot_be_removed_is_told(self, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
        left = unfinished(objects, "a", b"secret")

        def refuse(*_: object, **__: object) -> None:
            raise OSError(13, "Permission denied")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", refuse)
            with pytest.raises(ArchiveAccessError, match="cannot remove what is left"):
                objects.sweep()
        objects.sweep()
        assert not left.exists()

    def test_they_are_for_their_owner_alone(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        objects = FolderObjects(tmp_path)
        stamp = objects.create("a/b", b"1")
        objects.swap("a/b", b"2", stamp)
        objects.upload("c", [b"3"])
        assert {oct(Path(tmp_path, key).stat().st_mode & 0o777) for key in ("a/b", "c", "a")} == {"0o600", "0o700"}

    def test_a_file_where_a_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        objects = FolderObjects(tmp_path / "file")
        with pytest.raises(ArchiveError, match="cannot write"):
            objects.create("a", b"")
        with pytest.raises(ObjectNotFoundError):
            objects.get("a")


@pytest.fixture(scope="module")
def moto_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    with moto(tmp_path_factory.mktemp("moto")) as port:
        yield port


class TestS3(BucketContract):
    @pytest.fixture
    def bucket(self, moto_port: int) -> str:
        name = f"b-{uuid4()}"
        s3_bucket(moto_port, name)
        return name

    @pytest.fixture
    def opened(self, moto_port: int, bucket: str) -> Callable[[], Objects]:
        return lambda: s3(moto_port, bucket)

    @pytest.fixture
    def proxy(self, moto_port: int) -> Iterator[Faulty]:
        with between(moto_port) as proxy:
            yield proxy

    @pytest.fixture
    def broken(self, proxy: Faulty, bucket: str) -> Callable[..., Objects]:
        return lambda retries=None: s3(proxy.port, bucket, retries)

    def test_versions_that_are_kept_are_noticed(self, moto_port: int) -> None:
        name = f"v-{uuid4()}"
        s3_bucket(moto_port, name, versioned=True)
        assert s3(moto_port, name).keeps_versions()

    def test_a_bucket_that_does_not_exist(self, moto_port: int) -> None:
        objects = s3(moto_port, f"missing-{uuid4()}")
        for call in (
            lambda: objects.create("a", b""),
            lambda: objects.swap("a", b"", "1\n"),
            lambda: list(objects.list()),
        ):
            with pytest.raises(ArchiveError, match="no such bucket"):
                call()

    def test_a_server_that_ignores_conditions_is_refused(self, moto_port: int, bucket: str) -> None:
        with between(moto_port) as proxy:
            proxy.dropped = ("if-none-match",)
            with pytest.raises(ArchiveError, match="create-only"):
                s3(proxy.port, bucket).create("a", b"")
            proxy.dropped = ("if-match",)
            with pytest.raises(ArchiveError, match="compare-and-swap"):
                s3(proxy.port, bucket).create("a", b"")
        assert self.keys(s3(moto_port, bucket)) == []

    def test_an_endpoint_that_cannot_be_asked(
        self, moto_port: int, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in AWS.items():
            monkeypatch.setenv(f"AWS_{name.upper()}", value)
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{moto_port}")
        with pytest.raises(ArchiveError, match="AWS_ALLOW_HTTP=true"):
            open_objects(f"s3://{bucket}/a").create("b", b"")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        open_objects(f"s3://{bucket}/a").create("b", b"")


@pytest.fixture(scope="module")
def google() -> Iterator[FakeGoogle]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    google = FakeGoogle(versioned=("versioned",))
    yield google
    google.close()


class TestGoogle(BucketContract):
    @pytest.fixture
    def bucket(self, google: FakeGoogle) -> str:
        name = f"b-{uuid4()}"
        google.objects[name] = {}
        return name

    def open(self, port: int, bucket: str, retries: Retries | None = None) -> Objects:
        key = '{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}'
        options = {"base_url": f"http://127.0.0.1:{port}", "service_account_key": key}
        return open_objects(f"gs://{bucket}/some/where", options, retries=retries)

    @pytest.fixture
    def opened(self, google: FakeGoogle, bucket: str) -> Callable[[], Objects]:
        return lambda: self.open(google.port, bucket)

    @pytest.fixture
    def proxy(self, google: FakeGoogle) -> Iterator[Faulty]:
        with between(google.port) as proxy:
            yield proxy

    @pytest.fixture
    def broken(self, proxy: Faulty, bucket: str) -> Callable[..., Objects]:
        return lambda retries=None: self.open(proxy.port, bucket, retries)

    def test_versions_that_are_kept_are_noticed(self, google: FakeGoogle) -> None:
        assert self.open(google.port, "versioned").keeps_versions()


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    with azurite(tmp_path_factory.mktemp("azurite")) as port:
        yield port


class TestAzure(BucketContract):
    @pytest.fixture
    def bucket(self, azure: int) -> str:
        name = f"b-{uuid4()}"
        azure_container(azure, name)
        return name

    def open(self, port: int, bucket: str, retries: Retries | None = None) -> Objects:
        options = {"account_name": AZURE_ACCOUNT, "account_key": AZURE_KEY}
        options["endpoint"] = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        return open_objects(f"az://{bucket}/some/where", options, retries=retries)

    @pytest.fixture
    def opened(self, azure: int, bucket: str) -> Callable[[], Objects]:
        return lambda: self.open(azure, bucket)

    @pytest.fixture
    def proxy(self, azure: int) -> Iterator[Faulty]:
        with between(azure) as proxy:
            yield proxy

    @pytest.fixture
    def broken(self, proxy: Faulty, bucket: str) -> Callable[..., Objects]:
        return lambda retries=None: self.open(proxy.port, bucket, retries)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/path", "no objects are kept at ftp://"),
        ("s3://key:secret@bucket/a", "credentials"),
        ("s3://bucket/a?token=secret", "credentials"),
        ("gs:///path", "names no bucket"),
        ("file://host/path", "another machine"),
    ],
)
def test_what_is_no_url(url: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        open_objects(url)
    assert "secret" not in str(caught.value)


def test_a_keyring_in_a_bucket(moto_port: int) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from agentmem.archive.keyring import KeyRing
    from agentmem.archive.masterkey import MasterKey

    plain, versioned = f"k-{uuid4()}", f"k-{uuid4()}"
    s3_bucket(moto_port, plain)
    s3_bucket(moto_port, versioned, versioned=True)
    ring = KeyRing.open(s3(moto_port, plain), MasterKey(b"m" * 32))
    tag = ring.key_for("ana").tag
    ring.rotate(MasterKey(b"n" * 32))
    assert KeyRing.open(s3(moto_port, plain), MasterKey(b"n" * 32)).delete("ana")
    assert (ring.keys_of("ana"), ring.deleted()) == ([], {tag})
    with pytest.raises(ArchiveError, match="without versioning"):
        KeyRing.open(s3(moto_port, versioned), MasterKey(b"m" * 32))
