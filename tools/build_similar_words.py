"""Build the table of similar words that keyword search uses: ``agentmem/text/similar_words.npz``.

A build tool; the library itself only reads the file. It needs nothing but the package and takes half a minute::

    python -m tools.build_similar_words

How: each whole word of the bundled model's vocabulary is reduced to its stem, as keyword search does. A stem's vector
is the mean of its words' rows in the model's token table, each normalised. For every stem the file holds the at most
``MOST`` others whose cosine is at least ``LEAST``, function words left out. The same model gives the same bytes.

The file has four arrays: ``words`` (UTF-8, newline-separated, as uint8), and for word *i* the numbers of its similar
words ``other[start[i]:start[i + 1]]`` (uint16, most similar first) with ``cosine`` times 255 (uint8).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime

from agentmem.embedding.folder import BUNDLED
from agentmem.text.stopwords import STOP_TERMS
from agentmem.text.terms import terms

MOST, LEAST = 16, 0.5
OUTPUT = Path(__file__).resolve().parent.parent / "agentmem" / "text" / "similar_words.npz"


def stems() -> tuple[list[str], np.ndarray]:
    """Stems in the order of the vocabulary, and their normalised vectors, float32 ``(n, dim)``."""
    vocabulary = json.loads((BUNDLED / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    session = onnxruntime.InferenceSession(str(BUNDLED / "model.onnx"), providers=["CPUExecutionProvider"])
    rows = session.run(None, {"input_ids": np.arange(len(vocabulary), dtype=np.int64)[:, None]})[0]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    members: dict[str, list[int]] = {}
    for token, number in sorted(vocabulary.items(), key=lambda item: item[1]):
        if re.fullmatch("[a-z]{2,}", token):
            [stem] = terms(token)
            if stem not in STOP_TERMS:
                members.setdefault(stem, []).append(number)
    vectors = np.stack([rows[numbers].mean(axis=0) for numbers in members.values()])
    return list(members), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    words, vectors = stems()
    start, other, cosine = [0], [], []
    for number, vector in enumerate(vectors):
        similar = vectors @ vector
        similar[number] = 0
        best = np.argsort(-similar, kind="stable")[:MOST]
        best = best[similar[best] >= LEAST]
        other += best.tolist()
        cosine += np.round(similar[best] * 255).astype(int).tolist()
        start.append(len(other))
    np.savez_compressed(
        OUTPUT,
        words=np.frombuffer("\n".join(words).encode(), np.uint8),
        start=np.array(start, np.uint32),
        other=np.array(other, np.uint16),
        cosine=np.array(cosine, np.uint8),
    )
    print(f"{OUTPUT}: {len(words):,} words, {len(other):,} similar ones, {OUTPUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
