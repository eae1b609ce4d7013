"""The embedding package on the real models: the bundled one always, a transformer where the shared folder has it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from agentmem.embedding import fast, open_embedder
from agentmem.embedding.cache import CachedEmbedder
from agentmem.embedding.fast import FastEmbedder
from agentmem.embedding.folder import BUNDLED, ModelFolder
from agentmem.embedding.prefixes import known_prefixes
from agentmem.embedding.tokens import Tokens
from agentmem.types.errors import EmbeddingError, InvalidInputError
from agentmem.types.ports import Embedder

SHARED = ROOT.parent / "shared"
MINILM = SHARED / "models" / "minilm-int8"
LOCOMO = SHARED / "data" / "locomo_dev.json"

needs_minilm = pytest.mark.skipif(not MINILM.is_dir(), reason="needs ../shared/models/minilm-int8")
needs_locomo = pytest.mark.skipif(not LOCOMO.is_file(), reason="needs ../shared/data/locomo_dev.json")

# No known word, symbols only, scripts the vocabulary lacks, control characters only, one word of 5,000 letters.
STRANGE = [
    "!!!",
    "🙂",
    "🙂🙃",
    "\u0627",
    "𒀀",
    "日本語",
    "\u200b",
    "\x07",
    "[PAD]",
    "[UNK]",
    "x" * 5_000,
    "_",
    "\ufffd",
    "é",
]
TEXTS = [
    "Caroline: I went to the support group yesterday and it was so powerful.",
    "Melanie: Wow, that's cool! What happened there?",
    "the quick brown fox jumps over the lazy dog",
    "a",
    "Rent is due on the 1st; the landlord's number is +49 30 1234567.",
    "word " * 3_000 + "end",
    *STRANGE,
]


@pytest.fixture(scope="module")
def bundled() -> FastEmbedder:
    return FastEmbedder()


@pytest.fixture(scope="module")
def minilm() -> FastEmbedder:
    return FastEmbedder(MINILM)


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in which a warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={"PATH": "", "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class EmbedderContract:
    """What every embedder must hold; a subclass provides the fixture `embedder`."""

    def test_is_an_embedder_with_a_name_and_a_dim(self, embedder: Embedder) -> None:
        assert isinstance(embedder, Embedder)
        assert embedder.name
        assert embedder.dim > 0

    def test_shapes_types_and_lengths(self, embedder: Embedder) -> None:
        vectors = embedder.embed_documents(TEXTS)
        assert vectors.shape == (len(TEXTS), embedder.dim)
        assert vectors.dtype == np.float32
        assert vectors.flags.c_contiguous
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        query = embedder.embed_query(TEXTS[0])
        assert query.shape == (embedder.dim,)
        assert query.dtype == np.float32

    def test_a_batch_equals_single_calls(self, embedder: Embedder) -> None:
        batch = embedder.embed_documents(TEXTS)
        for text, vector in zip(TEXTS, batch, strict=True):
            np.testing.assert_allclose(embedder.embed_documents([text])[0], vector, atol=1e-5)

    def test_order_and_size_of_the_batch_do_not_matter(self, embedder: Embedder) -> None:
        texts = [f"{TEXTS[i % 5]} {i}" for i in range(300 if embedder.dim == 256 else 40)]
        forward = embedder.embed_documents(texts)
        backward = embedder.embed_documents(texts[::-1])[::-1]
        np.testing.assert_allclose(forward, backward, atol=1e-5)

    def test_no_texts(self, embedder: Embedder) -> None:
        assert embedder.embed_documents([]).shape == (0, embedder.dim)

    def test_one_text_is_not_a_sequence_of_texts(self, embedder: Embedder) -> None:
        with pytest.raises(InvalidInputError, match="sequence"):
            embedder.embed_documents("text")

    def test_the_end_of_a_long_text_counts(self, embedder: Embedder) -> None:
        head = "the cat sat on the mat and looked at the dog " * 150
        first, second = embedder.embed_documents([head, head + "volcano eruption lava magma " * 150])
        volcano = embedder.embed_query("volcano eruption")
        assert float(second @ volcano) > float(first @ volcano) + 0.05

    def test_related_texts_are_closer_than_unrelated_ones(self, embedder: Embedder) -> None:
        query = embedder.embed_query("Which pet does she have?")
        near, far = embedder.embed_documents(["She adopted a small dog.", "The invoice is due in March."])
        assert float(query @ near) > float(query @ far)

    def test_unusable_text_is_an_error_with_its_cause(self, embedder: Embedder) -> None:
        with pytest.raises(EmbeddingError) as caught:
            embedder.embed_documents(["fine", "lone surrogate \ud800"])
        assert isinstance(caught.value.__cause__, Exception)

    def test_many_threads_at_once(self, embedder: Embedder) -> None:
        texts = TEXTS[:5]
        expected = embedder.embed_documents(texts)
        equal: list[bool] = []

        def work() -> None:
            equal.extend(np.allclose(embedder.embed_documents(texts), expected, atol=1e-5) for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert equal == [True] * 40


class TestBundled(EmbedderContract):
    @pytest.fixture
    def embedder(self, bundled: FastEmbedder) -> Embedder:
        return bundled


class TestBundledBehindTheCache(EmbedderContract):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return open_embedder()


@needs_minilm
class TestTransformerFolder(EmbedderContract):
    @pytest.fixture
    def embedder(self, minilm: FastEmbedder) -> Embedder:
        return minilm

    def test_names_itself_after_folder_and_files(self, minilm: FastEmbedder, tmp_path: Path) -> None:
        assert minilm.name == f"minilm-int8@{minilm.fingerprint[:12]}"
        assert minilm.dim == 384
        copy = tmp_path / "minilm-int8"
        shutil.copytree(MINILM, copy)
        assert FastEmbedder(copy).name == minilm.name
        with (copy / "model.onnx").open("ab") as file:
            file.write(b"\0")
        assert FastEmbedder(copy).name != minilm.name

    def test_prefixes_change_vectors_and_name(self, minilm: FastEmbedder) -> None:
        prefixed = FastEmbedder(MINILM, query_prefix="query: ", document_prefix="passage: ")
        assert prefixed.name != minilm.name
        np.testing.assert_allclose(prefixed.embed_query("a dog"), minilm.embed_query("query: a dog"), atol=1e-5)
        documents = prefixed.embed_documents(["a dog"])
        np.testing.assert_allclose(documents, minilm.embed_documents(["passage: a dog"]), atol=1e-5)

    def test_prompts_of_the_publisher_are_used(self, minilm: FastEmbedder, tmp_path: Path) -> None:
        copy = tmp_path / "model"
        shutil.copytree(MINILM, copy)
        prompts = {"prompts": {"query": "query: ", "document": "passage: "}}
        (copy / "config_sentence_transformers.json").write_text(json.dumps(prompts))
        model = FastEmbedder(copy)
        np.testing.assert_allclose(model.embed_query("a dog"), minilm.embed_query("query: a dog"), atol=1e-5)

    def test_a_long_text_is_the_weighted_average_of_its_windows(self, minilm: FastEmbedder) -> None:
        # 1,200 tokens of one word each: three windows of 400, all the same.
        window = minilm.embed_query(" ".join(["dog"] * 400))
        np.testing.assert_allclose(minilm.embed_query(" ".join(["dog"] * 1_200)), window, atol=1e-4)

    def test_a_named_model_from_fastembeds_cache(self, minilm: FastEmbedder, tmp_path: Path) -> None:
        repository = tmp_path / "models--Qdrant--all-MiniLM-L6-v2-onnx"
        shutil.copytree(MINILM, repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
        named = FastEmbedder("sentence-transformers/all-MiniLM-L6-v2", cache_dir=tmp_path)
        assert (named.name, named.dim) == ("sentence-transformers/all-MiniLM-L6-v2", 384)
        texts = [text for text in TEXTS if text not in STRANGE]
        vectors = named.embed_documents(texts)
        np.testing.assert_allclose(vectors, minilm.embed_documents(texts), atol=1e-2)
        np.testing.assert_allclose(vectors[:5], minilm.embed_documents(texts[:5]), atol=1e-5)
        np.testing.assert_allclose(named.embed_query(texts[0]), vectors[0], atol=1e-5)
        assert named.fingerprint == minilm.fingerprint


# --- the bundled model ------------------------------------------------------------------------------------------


def test_bundled_model_loads_in_fastembed_with_the_same_vectors(bundled: FastEmbedder) -> None:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        "test/bundled",
        pooling=PoolingType.DISABLED,
        normalization=True,
        sources=ModelSource(hf="test/bundled"),
        dim=bundled.dim,
        model_file="model.onnx",
    )
    model = TextEmbedding("test/bundled", specific_model_path=str(BUNDLED))
    texts = [text for text in TEXTS if text not in ("\u200b", "\x07", "\ufffd")]  # no token: zero in fastembed
    np.testing.assert_allclose(list(model.embed(texts)), bundled.embed_documents(texts), atol=1e-5)


def test_bundled_files_are_small_and_carry_their_licence() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) <= 16 * 2**20
    assert "Apache License" in (BUNDLED / "LICENSE").read_text()
    assert "all-MiniLM-L6-v2" in (BUNDLED / "NOTICE").read_text()


def test_a_text_beyond_any_window_is_summed_whole(bundled: FastEmbedder) -> None:
    parts = ["alpha beta gamma ", "the volcano erupted "]
    sums = sum(np.asarray(raw_sum(bundled, part)) * 5_000 for part in parts)
    expected = sums / np.linalg.norm(sums)
    np.testing.assert_allclose(bundled.embed_query(parts[0] * 5_000 + parts[1] * 5_000), expected, atol=1e-4)


def raw_sum(embedder: FastEmbedder, text: str) -> np.ndarray:
    """The sum of the rows of a text's tokens, straight from the graph."""
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(str(BUNDLED / "model.onnx"), providers=["CPUExecutionProvider"])
    ids = Tokenizer.from_file(str(BUNDLED / "tokenizer.json")).encode(text).ids
    return session.run(None, {"input_ids": np.array([ids], np.int64)})[0][0]


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """The tokenizer as it was published, all of its steps."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens(BUNDLED / "tokenizer.json")


_TYPED = st.text(st.characters(max_codepoint=127), max_size=60)
_SPELLED = st.text(
    st.characters(max_codepoint=0x52F)
    | st.sampled_from("\u0301\u1e9e\u1ee7\u1fb3\u2019\u2026\u2013\u201eİΣς [SEP]\t\n"),
    max_size=60,
)


@given(texts=st.lists(_TYPED | _SPELLED | st.text(max_size=60) | st.sampled_from(TEXTS), max_size=6))
def test_tokens_are_those_of_the_published_tokenizer(pipeline: Any, tokens: Tokens, texts: list[str]) -> None:
    assert tokens.encode(texts) == [pipeline.encode(text, add_special_tokens=False).ids for text in texts]


def test_tokens_do_not_depend_on_what_is_remembered(pipeline: Any) -> None:
    tokens = Tokens(BUNDLED / "tokenizer.json")
    for number in range(0, 45_000, 500):  # more words than are kept
        texts = [f"Word{n} is number {n}, isn't it?" for n in range(number, number + 500)]
        found = tokens.encode([*texts, texts[0]])
        assert found[0] == found[-1] == pipeline.encode(texts[0], add_special_tokens=False).ids
        assert found[-2] == pipeline.encode(texts[-1], add_special_tokens=False).ids


@needs_locomo
def test_bundled_model_finds_evidence(bundled: FastEmbedder) -> None:
    cuts, shares = (5, 10, 20), []
    for sample in json.loads(LOCOMO.read_text("utf-8")):
        sessions = [v for k, v in sample["conversation"].items() if re.fullmatch(r"session_\d+", k)]
        turns = [turn for session in sessions for turn in session]
        position = {turn["dia_id"]: index for index, turn in enumerate(turns)}
        documents = bundled.embed_documents([f"{turn['speaker']}: {turn['text']}" for turn in turns])
        for question in sample["qa"]:
            named = {i for text in question["evidence"] for i in re.findall(r"D\d+:\d+", text)} & position.keys()
            if named:
                ranking = np.argsort(-(documents @ bundled.embed_query(question["question"])), kind="stable")
                shares.append([np.mean(np.isin([position[i] for i in named], ranking[:cut])) for cut in cuts])
    recall = np.mean(shares, axis=0)
    assert (recall >= [0.48, 0.56, 0.64]).all(), recall


def test_knows_name_and_dim_without_loading_and_is_silent() -> None:
    code = (
        "import sys; from agentmem.embedding import open_embedder; e = open_embedder();"
        "assert e.dim == 256 and e.name == 'agentmem/minilm-static-256';"
        "heavy = {'onnxruntime', 'tokenizers', 'fastembed'} & set(sys.modules); assert not heavy, heavy"
    )
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_first_search_of_a_process_is_fast_offline_and_silent() -> None:
    code = (
        "import time; start = time.process_time(); import socket, sys\n"
        "def refuse(*a): raise AssertionError('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from agentmem.embedding import open_embedder\n"
        "assert open_embedder().embed_query('hello').shape == (256,)\n"
        "assert 'fastembed' not in sys.modules and 'lancedb' not in sys.modules\n"
        "assert time.process_time() - start < 1.5"
    )
    done = run_python(code, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_loads_once_for_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_models", WeakValueDictionary())  # others may have loaded it, and still hold it
    embedder, loads = FastEmbedder(), []
    load = embedder._load
    monkeypatch.setattr(embedder, "_load", lambda: loads.append(1) or load())
    threads = [threading.Thread(target=embedder.warm_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]


# --- failures ---------------------------------------------------------------------------------------------------


def test_a_folder_that_does_not_exist() -> None:
    for path in ("/no/such/folder", "./none", "~/none/at/all", Path("none")):
        with pytest.raises(InvalidInputError, match="no model folder"):
            FastEmbedder(path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match=r"BAAI/bge-small-en-v1\.5"):
        FastEmbedder("no/such-model").embed_query("x")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match=r"must hold a model\.onnx"):
        FastEmbedder(tmp_path).embed_query("x")


def test_a_damaged_model_names_the_folder_and_the_cause(tmp_path: Path) -> None:
    copy = shutil.copytree(BUNDLED, tmp_path / "model")
    (copy / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(EmbeddingError, match=re.escape(str(copy))) as caught:
        FastEmbedder(copy).embed_query("x")
    assert caught.value.__cause__ is not None


def test_a_zero_vector_is_an_error(tmp_path: Path) -> None:
    copy = shutil.copytree(BUNDLED, tmp_path / "model")
    content = bytearray((copy / "model.onnx").read_bytes())
    content[1_000:7_500_000] = bytes(7_499_000)  # the middle of the token table
    (copy / "model.onnx").write_bytes(content)
    with pytest.raises(EmbeddingError, match="zero or non-finite vector for text 0"):
        FastEmbedder(copy).embed_documents(["the dog", "a cat"])


def test_a_failed_download_says_how_to_fetch_the_model(tmp_path: Path) -> None:
    code = (
        "import sys; from agentmem.embedding import open_embedder; from agentmem.types.errors import EmbeddingError\n"
        "from agentmem.embedding.fast import FastEmbedder\n"
        f"e = FastEmbedder('BAAI/bge-small-en-v1.5', cache_dir={str(tmp_path)!r})\n"
        "assert e.dim == 384\n"
        "try: e.embed_query('x')\n"
        "except EmbeddingError as exc: assert exc.__cause__ is not None; print(exc)"
    )
    done = run_python(code, HF_HUB_OFFLINE="1")
    assert done.stderr == ""
    for part in ("hf download", "FASTEMBED_CACHE_PATH", "BAAI/bge-small-en-v1.5", str(tmp_path)):
        assert part in done.stdout


def test_known_prefixes() -> None:
    assert known_prefixes("intfloat/multilingual-e5-large") == ("query: ", "passage: ")
    assert known_prefixes("nomic-ai/nomic-embed-text-v1.5").document == "search_document: "
    assert known_prefixes("BAAI/bge-small-en").query.startswith("Represent")
    assert known_prefixes("BAAI/bge-small-en-v1.5") == ("", "")


def test_folder_reads_the_publishers_words(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    (tmp_path / "config.json").write_text('{"hidden_size": 768}')
    folder = ModelFolder(tmp_path)
    assert (folder.pooling, folder.window, folder.dim) == ("cls", 512, 768)


# --- open_embedder ----------------------------------------------------------------------------------------------


class Letters(Embedder):
    """A small embedder of a caller: counts letters. Keeps the texts of every call."""

    name = "letters"
    dim = 26

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        rows = [np.bincount([ord(c) % 26 for c in text] or [0], minlength=26) for text in texts]
        return np.array(rows, np.float32).reshape(len(texts), 26)

    def embed_query(self, text: str) -> np.ndarray:
        self.calls.append([f"query {text}"])
        return self.embed_documents([text])[0] * 2


def test_open_embedder_wraps_in_a_cache_or_not() -> None:
    letters = Letters()
    assert open_embedder(letters, cache_size=0) is letters
    cached = open_embedder(letters)
    assert isinstance(cached, CachedEmbedder)
    assert open_embedder(cached) is cached
    assert (cached.name, cached.dim) == ("letters", 26)


def test_open_embedder_names_what_an_object_lacks() -> None:
    class Half:
        name = "half"

        def embed_documents(self, texts: Sequence[str]) -> np.ndarray: ...

    with pytest.raises(InvalidInputError, match="this Half lacks dim, embed_query") as caught:
        open_embedder(Half())  # pyright: ignore[reportArgumentType]
    assert caught.value.field == "embedder"
    with pytest.raises(InvalidInputError, match="class Letters"):
        open_embedder(Letters)  # pyright: ignore[reportArgumentType]
    for wrong in (42, object(), b"name"):
        with pytest.raises(InvalidInputError, match="lacks"):
            open_embedder(wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("name", "dim"), [("", 3), (7, 3), ("x", 0), ("x", True), ("x", 2.0)])
def test_open_embedder_checks_name_and_dim(name: object, dim: object) -> None:
    odd = Letters()
    odd.name, odd.dim = name, dim
    with pytest.raises(InvalidInputError, match=r"embedder\.(name|dim)"):
        open_embedder(odd)


# --- the cache --------------------------------------------------------------------------------------------------


def test_cache_embeds_each_text_once() -> None:
    letters = Letters()
    cached = CachedEmbedder(letters)
    first = cached.embed_documents(["a", "b", "a"])
    assert letters.calls == [["a", "b"]]
    assert (cached.hits, cached.misses) == (1, 2)
    second = cached.embed_documents(["c", "b", "c", "a"])
    assert letters.calls[1:] == [["c"]]
    assert (cached.hits, cached.misses) == (4, 3)
    np.testing.assert_array_equal(first, Letters().embed_documents(["a", "b", "a"]))
    np.testing.assert_array_equal(second, Letters().embed_documents(["c", "b", "c", "a"]))


def test_cache_keeps_queries_and_documents_apart() -> None:
    letters = Letters()
    cached = CachedEmbedder(letters)
    document, query = cached.embed_documents(["a"])[0], cached.embed_query("a")
    np.testing.assert_array_equal(query, document * 2)
    np.testing.assert_array_equal(cached.embed_query("a"), query)
    assert (cached.hits, cached.misses) == (1, 2)


def test_cache_forgets_the_least_recently_used() -> None:
    letters = Letters()
    cached = CachedEmbedder(letters, size=3)
    cached.embed_documents(["a", "b", "c"])
    cached.embed_documents(["a"])
    cached.embed_documents(["d"])  # b goes
    letters.calls.clear()
    cached.embed_documents(["a", "c", "d"])
    assert letters.calls == []
    cached.embed_documents(["b"])
    assert letters.calls == [["b"]]


def test_cache_with_a_batch_larger_than_itself() -> None:
    letters = Letters()
    cached = CachedEmbedder(letters, size=3)
    texts = [chr(97 + i) * 2 for i in range(8)]
    for _ in range(2):
        np.testing.assert_array_equal(cached.embed_documents(texts), Letters().embed_documents(texts))
    cached.clear()
    letters.calls.clear()
    cached.embed_documents(texts[-3:])
    assert letters.calls == [texts[-3:]]


def test_a_caller_cannot_change_the_cache() -> None:
    cached = CachedEmbedder(Letters())
    for _ in range(3):
        vectors, query = cached.embed_documents(["a", "b"]), cached.embed_query("a")
        assert vectors.sum() == 2
        assert query.sum() == 2
        vectors[:] = 7
        query[:] = 7


def test_cache_does_not_keep_long_texts() -> None:
    letters = Letters()
    cached = CachedEmbedder(letters, max_chars=10)
    for _ in range(2):
        cached.embed_documents(["short", "l" * 11])
    assert letters.calls == [["short", "l" * 11], ["l" * 11]]


def test_a_failure_leaves_nothing_in_the_cache() -> None:
    class Failing(Letters):
        broken = True

        def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
            if self.broken:
                raise RuntimeError("out of order")
            return super().embed_documents(texts)

    failing = Failing()
    cached = CachedEmbedder(failing)
    with pytest.raises(RuntimeError, match="out of order"):
        cached.embed_documents(["a", "b"])
    failing.broken = False
    assert cached.embed_documents(["a", "b"]).sum() == 2
    assert (cached.hits, cached.misses) == (0, 2)


def test_cache_under_threads_never_mixes_vectors_up() -> None:
    cached = CachedEmbedder(Letters(), size=20)
    wrong: list[str] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(200):
            texts = [chr(97 + int(i)) * (1 + int(i) % 3) for i in random.integers(0, 26, 12)]
            for text, vector in zip(texts, cached.embed_documents(texts), strict=True):
                if vector[ord(text[0]) % 26] != len(text) or vector.sum() != len(text):
                    wrong.append(text)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_cache_refuses_a_size_below_one() -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        CachedEmbedder(Letters(), size=0)
