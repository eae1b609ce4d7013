"""Searching by words in any script, with and without accents, by signs and by emoji, in arenas and in large scopes."""

# ruff: noqa: RUF001
from __future__ import annotations

import tempfile
from collections.abc import Callable

import oracle_words
import pytest
from conftest import FakeClock, HashEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st
from length import examples

from agentmem import Memory, Settings

SMALL, LARGE = Settings(), Settings(arena_limit=0)


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def memory(request: pytest.FixtureRequest, open_memory: Callable[..., Memory]) -> Memory:
    return open_memory(settings=request.param)


def found(memory: Memory, query: str) -> list[str]:
    return [hit.content for hit in memory.search(query, user_id="ana", mode="keyword")]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Wohnt jetzt in Düsseldorf", "dusseldorf"),
        ("Wohnt jetzt in Düsseldorf", "DUESSELDORF"),
        ("Frau Schroeder rief an", "Schröder"),
        ("Frau Schroder rief an", "Schröder"),
        ("große Füße", "grosse fusse"),
        ("Reykjavík en hiver", "reykjavik"),
        ("Malmö är grönt", "Malmo"),
        ("Tromsø om vinteren", "Tromso"),
        ("Tromsø om vinteren", "Tromsoe"),
        ("Novak Đoković serves", "Djokovic"),
        ("Novak Đoković serves", "Dokovic"),
        ("urodził się w Łodzi", "lodzi"),
        ("Kız kardeşi Iğdır'da", "igdir"),
        ("İzmir'e taşındı", "izmir"),
        ("Phở ở Huế rất ngon", "pho hue"),
        ("Her name is Siobha\u0301n", "Siobhan"),
        ("Her name is Siobhán", "Siobha\u0301n"),
        ("она любит ёлки", "елки"),
        ("Ο Γιώργος μένει εδώ", "ΓΙΩΡΓΟΣ"),
        ("قَهْوَة الصباح", "قهوة"),
        ("قهوة الصباح", "قَهْوَة"),
        ("أسامة في دبي", "اسامه"),
        ("کتاب‌خانه بزرگ", "كتابخانه"),
        ("תַּפּוּחַ בַּגַּן", "תפוח"),
        ("a hyphen\u00adation", "hyphenation"),
        ("the bal\u200bcony door", "balcony"),
        ("\ufeffchapter one", "chapter"),
        ("ﬁnance ｏｆｆｉｃｅ", "finance office"),
        ("गाँव में रहती है", "गांव"),
        ("flight on २६ July", "26"),
        ("เชียงใหม่สวยมาก", "เชียงใหม่"),
        ("대전에서 일해요", "대전"),
        ("대전광역시청", "광역시"),
        ("대전", "대전에서는"),
        ("집에서 쉬어요", "집"),
        ("꽃을 샀어요", "꽃"),
        ("KTX를 타요", "ktx"),
        ("アニメとiPadが好き", "ipad"),
        ("uses Node.js daily", "nodejs"),
        ("lives in the U.S. now", "US"),
        ("works in R&D", "R&D"),
        ("works in R&D", "rd"),
        ("👍🏼 from Lea", "👍"),
        ("👍 from Lea", "👍🏾"),
        ("we ❤️ it", "❤"),
    ],
)
def test_a_word_finds_its_other_spellings(memory: Memory, text: str, query: str) -> None:
    memory.add_many([text, "something about nothing", "아무 말", "другое слово", "另外"], user_id="ana")
    assert found(memory, query)[:1] == [text]


@pytest.mark.parametrize(
    ("right", "wrong", "query"),
    [
        ("er ist schön", "er ist schon", "schön"),
        ("la pêche est bonne", "la peche est bonne", "pêche"),
        ("el año pasado", "el ano pasado", "año"),
        ("Herr Müller kommt", "Herr Mueller kommt", "Müller"),
        ("Herr Møller kommt", "Herr Möller kommt", "Møller"),
        ("мой дом там", "мои дом там", "мой"),
        ("كَتَبَ هنا", "كُتُب هنا", "كَتَبَ"),
        ("she codes in C++", "she codes in C", "c++"),
        ("she codes in C", "she codes in C++", "c"),
        ("she codes in F#", "she codes in F", "F#"),
        ("she likes .NET most", "she likes net most", ".net"),
        ("we watch Apple TV+", "we watch Apple TV", "TV+"),
        ("her blood group is B-", "her blood group is B+", "B-"),
        ("costs 20 €", "costs 20 $", "€20"),
        ("sent 👍🏿 back", "sent 👍🏻 back", "👍🏿"),
        ("sent 🇧🇷 back", "sent 🇧🇪 back", "🇧🇷"),
        ("sent 👩‍🚀 back", "sent 👩‍🚒 back", "👩‍🚀"),
        ("learns vue.js fast", "learns vue or js fast", "vue.js"),
    ],
)
def test_what_was_spelled_as_the_question_is_comes_first(memory: Memory, right: str, wrong: str, query: str) -> None:
    memory.add_many([wrong, right, "something about nothing"], user_id="ana")
    memory.add_many([right, wrong, "something about nothing"], user_id="ben")
    for user in ("ana", "ben"):
        hits = memory.search(query, user_id=user)
        assert hits[0].content == right
        assert hits[0].score > hits[1].score + 0.01


@pytest.mark.parametrize(
    ("text", "other", "query"),
    [
        ("मेरी माँ पुणे में है", "मेरा भाई नाशिक में है", "नाशिक"),
        ("என் அக்கா மதுரையில்", "என் தம்பி சேலத்தில்", "சேலத்தில்"),
        ("আমার বোন ঢাকায়", "আমার ভাই খুলনায়", "খুলনায়"),
        ("ခွေး", "ကြောင်", "ကြောင်"),
        ("저는 대구에서 살아요", "동생은 광주에 있어요", "광주"),
        ("차이가 커요", "차를 샀어요", "차"),
        ("we had 🥐 today", "we had 🥨 today", "🥨"),
        ("she codes in C", "she codes in C#", "C#"),
        ("Мой кот", "Моя собака", "собака"),
    ],
)
def test_words_do_not_find_what_only_shares_a_part_of_them(memory: Memory, text: str, other: str, query: str) -> None:
    memory.add_many([text, other], user_id="ana")
    assert found(memory, query) == [other]


def test_typing_without_accents_finds_both_spellings(memory: Memory) -> None:
    memory.add_many(["Zoé paints", "Zoe paints", "Zoë paints", "Max paints"], user_id="ana")
    assert set(found(memory, "zoe")) == {"Zoé paints", "Zoe paints", "Zoë paints"}
    for name in ("Zoé", "Zoë"):
        assert found(memory, name)[0] == f"{name} paints"
        assert len(found(memory, name)) == 3


def test_a_rare_word_is_not_lost_among_those_it_is_folded_to(memory: Memory) -> None:
    """French "maïs" is rare where "mais" is in every other sentence."""
    memory.add_many([f"mais le voisin numéro {n} dort" for n in range(30)], user_id="ana")
    memory.add("le champ de maïs", user_id="ana")
    assert memory.search("Où est le maïs, voisin ?", user_id="ana", mode="keyword")[0].content == "le champ de maïs"


def test_a_spelling_that_nobody_used_costs_nothing(memory: Memory) -> None:
    memory.add_many(["The cafe is closed", "The shop is closed"], user_id="ana")
    plain, accented = (memory.search(query, user_id="ana", mode="keyword")[0].score for query in ("cafe", "café"))
    assert accented == pytest.approx(plain)


def test_explanations_name_the_words_without_repeating_them(memory: Memory) -> None:
    memory.add_many(["Frau Müller", "Frau Mueller"], user_id="ana")
    first, second = memory.search("Müller", user_id="ana", explain=True, mode="keyword")
    assert first.details is not None
    assert second.details is not None
    assert (first.content, first.details.matched_terms) == ("Frau Müller", ("muller", "mueller"))
    assert (second.content, second.details.matched_terms) == ("Frau Mueller", ("mueller",))
    assert first.details.exact == pytest.approx(first.details.keyword)


def test_a_misspelled_word_with_accents_is_found(open_memory: Callable[..., Memory]) -> None:
    memory = open_memory()
    memory.add_many(["Gruß aus Lüneburg", "Ресторан «Пушкинъ»", "Η Καλαμάτα είναι ωραία"], user_id="ana")
    for query in ("Lünburg", "Luneburgg", "Lünebург", "Lüneberg"):
        assert found(memory, query) == (["Gruß aus Lüneburg"] if query != "Lünebург" else [])
    assert found(memory, "Пужкинъ") == ["Ресторан «Пушкинъ»"]
    assert found(memory, "Καλαματο") == ["Η Καλαμάτα είναι ωραία"]


# -- any text --------------------------------------------------------------------------------------------------------

words = st.sampled_from(
    "Ünal ünal café CAFÉ cafe Straße Łódź c++ C# .NET net node.js ok! R&D A+ b- $5 мой мои ёж φως كِتَاب كتاب שָׁלוֹם "
    "दिल्ली দিল্লি ไทย ကြောင် 東京 カナ 서울에서 서울 집에 집 KTX를 🍣 👍🏽 👍 👨‍👩‍👧 "
    "🇩🇪 pass\u00adword می\u200cخواهم ３ ②".split()
) | st.text(alphabet="aé+-.#&$ß한글집에서は天ไมйяَ́\u200d👍🏽🇩🇪7", min_size=1, max_size=6)
contents = st.lists(words, min_size=1, max_size=6).map(" ".join).filter(lambda text: bool(oracle_words.terms(text)))


@pytest.mark.long
@settings(max_examples=examples(15, 200))
@given(texts=st.lists(contents, min_size=1, max_size=6))
def test_a_text_is_found_by_each_of_its_own_words(texts: list[str]) -> None:
    clock, embedder = FakeClock(), HashEmbedder()
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        for folder, options in ((small, SMALL), (large, LARGE)):
            with Memory(folder, settings=options, clock=clock, embedder=embedder) as memory:
                ids = [one.id for one in memory.add_many(texts, user_id="ana", dedupe=False)]
                for id, text in zip(ids, texts, strict=True):
                    for word in text.split():
                        if oracle_words.terms(word):
                            hits = memory.search(word, user_id="ana", mode="keyword", limit=20)
                            assert id in {hit.id for hit in hits}, word
