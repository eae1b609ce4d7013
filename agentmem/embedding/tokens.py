"""From texts to the numbers of their tokens: the file that imports tokenizers, on use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

_WORDS_KEPT = 20_000
"""Words whose tokens are remembered: some 5 MB."""
_LONGEST_KEPT = 100
_SPACED = re.compile(r"[\t\n\r -~\u00a0-\u052f\u1e00-\u1fff\u2010-\u203a]{0,4000}").fullmatch
"""Whether a text is written in an alphabet that puts blanks between words (Latin, Greek, Cyrillic), and not so long
that other threads would have to wait for the interpreter's lock."""
_words = re.compile(r"[^\t\n\r !-/:-@\[-`{-~]+|[!-/:-@\[-`{-~]").findall


class Tokens:
    """The tokenizer of a model's folder. Safe to call from several threads at once; takes no lock here.

    BERT's tokenizers cut a text at blanks and punctuation, and make tokens of each word by itself. So the tokens of a
    text are put together from those of its words, most of which came before: that takes a fourth of the time.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # "[SEP]" in somebody's text is text, not an instruction to the model.
        self._tokenizer.encode_special_tokens = True
        self._wordwise = _is_wordwise(self._tokenizer)
        self._known = dict[str, list[int]]()
        probe = self._tokenizer.encode("a")
        mask = probe.special_tokens_mask
        first = mask.index(0) if 0 in mask else len(mask)
        last = len(mask) - mask[::-1].index(0) if 0 in mask else len(mask)
        self.front: list[int] = probe.ids[:first]
        """The tokens that the model expects before every text, such as [CLS]; ``back`` those after it."""
        self.back: list[int] = probe.ids[last:]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token numbers of each text, without special ones."""
        if not self._wordwise:
            return self._encode(texts)
        if len(self._known) > _WORDS_KEPT:
            self._known = {}
        known = self._known
        found = [self._by_words(text, known) if _SPACED(text) else None for text in texts]
        rest = iter(self._encode([text for text, ids in zip(texts, found, strict=True) if ids is None]))
        return [next(rest) if ids is None else ids for ids in found]

    def _by_words(self, text: str, known: dict[str, list[int]]) -> list[int]:
        # The same words in less forms; what is not ASCII has rules of its own, which the tokenizer knows.
        words = _words(text.lower() if text.isascii() else text)
        try:
            return list(chain.from_iterable(map(known.__getitem__, words)))
        except KeyError:
            new = {word for word in words if word not in known}
            if max(map(len, new)) > _LONGEST_KEPT:
                return self._encode([text])[0]
            # One at a time: for several, the tokenizer wakes threads of its own.
            known.update((word, self._encode([word])[0]) for word in new)
            return list(chain.from_iterable(map(known.__getitem__, words)))

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return [item.ids for item in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _is_wordwise(tokenizer: Any) -> bool:
    """Whether the tokens of a text are those of its words, in whatever case, one after the other."""
    from tokenizers import models, normalizers, pre_tokenizers

    normalizer = tokenizer.normalizer
    return (
        not tokenizer.get_added_tokens_decoder()
        and isinstance(normalizer, normalizers.BertNormalizer)
        and bool(normalizer.lowercase)
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(tokenizer.model, models.WordPiece)
    )
