"""Made-up texts: the same for the same seed, each one different, and cheap enough not to be what is measured."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

Maker: TypeAlias = Callable[[int, int], str]
"""The text of item *i* of batch *b*."""

_OPENERS = (
    "I keep forgetting to tell you that", "You will not believe it, but", "Just so you have it in writing:",
    "As we discussed on the phone,", "Between the two of us,", "For what it is worth,", "Now that you ask,",
    "Before it slips my mind:", "My sister was right after all,", "Good news from this end:", "To be honest,",
    "I looked it up this morning, and", "Sorry for the late answer,", "Funny that you mention it:",
)  # fmt: skip
_NAMES = (
    "Amara", "Bastien", "Chiyo", "Dmitri", "Esperanza", "Farid", "Greta", "Hyun-woo", "Ingrid", "Jamal", "Katarzyna",
    "Lorenzo", "Mbali", "Nikolai", "Ottilie", "Priya", "Quentin", "Rosalind", "Sanjay", "Tamsin", "Ulrich", "Valentina",
    "Wendell", "Ximena", "Yusuf", "Zuzana",
)  # fmt: skip
_DID = (
    "finally sold", "has been repairing", "wants to borrow", "gave away", "is looking for", "cannot stop talking about",
    "returned", "painted", "photographed", "is saving up for", "promised to bring", "has lost", "inherited",
    "swapped", "is allergic to", "wrote a song about", "was offered", "learned to build",
)  # fmt: skip
_THINGS = (
    "an old rowing boat", "the blue accordion", "a second-hand telescope", "the sourdough starter", "two beehives",
    "a set of chess clocks", "grandmother's sewing machine", "the camper van", "a crate of blood oranges",
    "the marathon bib", "a box of fountain pens", "the balcony tomatoes", "a pair of snowshoes", "the film projector",
    "a litter of kittens", "the orchard's cider press", "a rare orchid", "the ceramic kiln", "a folding kayak",
)  # fmt: skip
_PLACES = (
    "at the flea market in Ghent", "near the lighthouse", "on the night train to Vienna", "behind the bakery",
    "in the allotment by the canal", "at her cousin's wedding", "during the power cut", "in the library basement",
    "on the ferry to Bornholm", "outside the dentist's", "at the village fair", "in the office kitchen",
    "up in the mountains", "at the swimming lake",
)  # fmt: skip
_MORE = (
    "and asked about it again last week", "which nobody had expected", "so we will meet there in June",
    "and it cost less than forty euros", "but the doctor advised against it", "and the neighbours are thrilled",
    "although the weather was awful", "and would like to hear your opinion", "because the old one broke in two",
    "and sends you warm regards", "so please keep the weekend free", "and has not slept well since",
)  # fmt: skip
_ASKED = (
    "What happened to", "Who told me about", "Where did I hear of", "Is there any news about", "Do you remember",
    "How much was", "Why was everyone so surprised by", "When are we going to see",
)  # fmt: skip


class Profile(StrEnum):
    """What the texts look like."""

    SEED = "seed"
    DIALOGUE = "dialogue"


def maker(profile: Profile, seed: int) -> Maker:
    """The texts of a profile: about 18 characters for ``seed``, about 130 for ``dialogue``."""
    if profile is Profile.SEED:
        return lambda batch, item: f"Batch {batch} item {item}"
    opener, name, did, thing, place, more = _shuffled(seed, _OPENERS, _NAMES, _DID, _THINGS, _PLACES, _MORE)

    def turn(batch: int, item: int) -> str:
        h = _mix(batch * 1_000_003 + item)
        return (
            f"{opener[h % len(opener)]} {name[(h >> 8) % len(name)]} {did[(h >> 16) % len(did)]} "
            f"{thing[(h >> 24) % len(thing)]} {place[(h >> 32) % len(place)]} {more[(h >> 40) % len(more)]} "
            f"(note {batch}-{item})."
        )

    return turn


def question(seed: int) -> Callable[[int], str]:
    """Search queries, each one different."""
    asked, name, thing, place = _shuffled(seed + 1, _ASKED, _NAMES, _THINGS, _PLACES)

    def ask(number: int) -> str:
        h = _mix(number)
        return (
            f"{asked[h % len(asked)]} {thing[(h >> 8) % len(thing)]} {place[(h >> 16) % len(place)]}, "
            f"{name[(h >> 24) % len(name)]}? ({number})"
        )

    return ask


def _shuffled(seed: int, *lists: tuple[str, ...]) -> list[list[str]]:
    rng = random.Random(seed)
    return [rng.sample(values, len(values)) for values in lists]


def _mix(number: int) -> int:
    """Scatter neighbouring numbers over 64 bits (the finalizer of MurmurHash3, Appleby 2008)."""
    number = ((number ^ (number >> 33)) * 0xFF51AFD7ED558CCD) & 0xFFFF_FFFF_FFFF_FFFF
    number = ((number ^ (number >> 33)) * 0xC4CEB9FE1A85EC53) & 0xFFFF_FFFF_FFFF_FFFF
    return number ^ (number >> 33)
