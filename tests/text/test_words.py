"""What a text's words are, and which spellings of a word are the same."""

# ruff: noqa: RUF001
from __future__ import annotations

import unicodedata

import oracle_words
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from length import examples

from agentmem.text import terms as terms_module
from agentmem.text.folding import fold, spelled, written_out
from agentmem.text.question import words_of
from agentmem.text.stopwords import STOP_TERMS
from agentmem.text.terms import terms, terms_and_length

SCRIPTS = (
    "abcxyz ABC  ..++--##&&$_'’,57 ÄÖÜäöüßéèñçøØłŁđĐħæœþıİğşǿ\u0301\u0308\u00ad\u200b\u200c\u200d\ufe0f αάσςΣ йёмиЇї "
    "שָׁלום كِتَابٌأةىیـ मेरीहँक़ है ไปที่ไหนกำ ๒५٣ 東京タワーがｶﾞ々 한국서울에서집이는가 €£ ™ﬁ① ♯ ﷺ ʻ ൻന് "
    "🍣👍🏽👨👩👧❤★🇩🇪🏴\U000e0067\U000e007f"
)
"""Characters that behave differently from each other, those that tests elsewhere use among them."""
texts = st.text(max_size=40) | st.text(alphabet=SCRIPTS, max_size=25)


# -- folding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "folded"),
    [
        ("Perú", "peru"),
        ("Nîmes", "nimes"),
        ("Gdańsk", "gdansk"),
        ("WROCŁAW", "wroclaw"),
        ("Brønnøysund", "bronnoysund"),
        ("Đồng Nai", "dong nai"),
        ("Þingvellir", "thingvellir"),
        ("Fußgängerzone", "fussgangerzone"),
        ("FUSSGÄNGERZONE", "fussgangerzone"),
        ("Œuvre", "oeuvre"),
        ("Diyarbakır", "diyarbakir"),
        ("DİYARBAKIR", "diyarbakir"),
        ("Kaunakakaʻi", "kaunakakai"),
        ("Θεσσαλονίκη", "θεσσαλονικη"),
        ("ΘΕΣΣΑΛΟΝΊΚΗΣ", "θεσσαλονικησ"),
        ("Семён", "семен"),
        ("за\u0301мок", "замок"),
        ("йод", "йод"),
        ("їжак", "їжак"),
        ("مُعَلِّمَة", "معلمه"),
        ("إبراهيم", "ابراهيم"),
        ("کتاب", "كتاب"),
        ("كتـــاب", "كتاب"),
        ("בְּרֵאשִׁית", "בראשית"),
        ("ज़मीन", "जमीन"),
        ("चाँद", "चांद"),
        ("がっこう", "がっこう"),
        ("ｶﾞｯｺｳ", "ガッコウ"),
        ("２０２６", "2026"),
        ("٢٠٢٦", "2026"),
        ("२०२६", "2026"),
        ("ﬂ\u00adut\u200b", "flut"),
    ],
)
def test_what_is_left_out_in_a_hurry_does_not_matter(word: str, folded: str) -> None:
    assert fold(word) == folded


@pytest.mark.parametrize(
    ("word", "letters"),
    [
        ("Jürgen", "juergen"),
        ("Göteborg", "goeteborg"),
        ("Ærøskøbing", "aeroeskoebing"),
        ("Åse", "aase"),
        ("Đura", "djura"),
    ],
)
def test_umlauts_are_written_as_two_letters_too(word: str, letters: str) -> None:
    assert written_out(spelled(word)) == letters


@given(texts)
def test_folding_twice_changes_nothing(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    assert fold(spelled(text)) == folded
    assert spelled(spelled(text)) == spelled(text)


@given(texts)
def test_how_a_text_is_encoded_does_not_matter(text: str) -> None:
    composed, apart = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert fold(composed) == fold(apart) == fold(text)


# -- terms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("?! … — \u200d\ufe0f", []),
        ("Two runners ran 3.5 km", ["two", "runner", "ran", "3", "5", "km"]),
        ("snake_case, CamelCase", ["snake", "case", "camelcas"]),
        ("Objective-C, C++17, J#.", ["object", "c", "c++", "17", "j#"]),
        ("g++ notepad++ Paramount+ 16+", ["g++", "notepad", "notepad++", "paramount", "paramount+", "16", "16+"]),
        ("a+b", ["a", "b"]),
        ("B-, AB+ or 0-", ["b", "b-", "ab", "ab+", "or", "0", "0-"]),
        ("co-op self- x-ray", ["co", "op", "self", "x", "ray"]),
        (".env and ASP.NET", ["env", ".env", "and", "asp", "net", "aspnet"]),
        ("vue.js e.g. H&M", ["vue", "js", "vuej", "e", "g", "eg", "h", "m", "hm"]),
        ("it ended.Then", ["it", "end", "then", "endedthen"]),
        ("v1.2 on 10.5.2025", ["v1", "2", "on", "10", "5", "2025"]),
        ("¥300 or $3", ["¥", "300", "or", "$", "3"]),
        ("G♯ minor", ["g#", "minor"]),
        ("crème brûlée", ["creme", "crème", "brule", "brûlée"]),
        ("straßenbahn", ["strassenbahn"]),
        ("jürgen", ["jurgen", "jürgen", "juergen"]),
        ("ปลาทู", ["ป", "ล", "า", "ทู"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("दो किताबें", ["दो", "किताबें"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("東京へiPhoneを", ["東", "京", "へ", "iphon", "を"]),
        ("대구에서", ["대구", "구에", "에서"]),
        ("차를 차이 차이가", ["차를", "차", "차이", "차", "차이", "이가"]),
        ("KTX로 강에서", ["ktx", "로", "강에", "에서", "강"]),
        ("בiPhone", ["ב", "iphon"]),
        ("1990م", ["1990", "م"]),
        ("🎻🎺", ["🎻", "🎺"]),
        ("☕️ ☕", ["☕", "☕"]),
        ("🙏🏿", ["🙏", "🙏🏿"]),
        ("🧑🏻‍🚀", ["🧑\u200d🚀", "🧑🏻\u200d🚀"]),
        ("🇯🇵🇰🇷", ["🇯🇵", "🇰🇷"]),
        ("3️⃣", ["3", "3\u20e3"]),
        ("🏴󠁧󠁢󠁷󠁬󠁳󠁿", ["🏴󠁧󠁢󠁷󠁬󠁳󠁿"]),
    ],
)
def test_the_terms_of_a_text(text: str, expected: list[str]) -> None:
    assert terms(text) == expected
    assert oracle_words.terms(text) == expected


def test_what_a_word_is_found_by_besides_makes_a_text_no_longer() -> None:
    assert terms_and_length("jürgen codes node.js, 강에서")[1] == 6
    assert terms_and_length("jurgen codes node js, 대구에서")[1] == 7


@pytest.mark.long
@settings(max_examples=examples(300, 2_000))
@given(texts)
def test_every_text_has_terms_that_an_index_can_hold(text: str) -> None:
    found, length = terms_and_length(text)
    assert 0 <= length <= len(found)
    for term in found:
        assert term
        assert not set(term) & set(" \t\n\x00\"'()*:^,_")
        assert not any(char.isspace() for char in term)
        assert len(term) <= 70


@pytest.mark.long
@settings(max_examples=examples(500, 5_000))
@given(st.text(alphabet=SCRIPTS, max_size=25) | st.text(alphabet="abcAC  ..++--##&&$_,57", max_size=25))
def test_the_oracle_finds_the_same_words(text: str) -> None:
    assert terms_and_length(text) == (oracle_words.terms(text), oracle_words.length(text))


@given(texts)
def test_a_text_has_the_terms_of_its_words_wherever_they_stand(text: str) -> None:
    """Also where all of it is ASCII, or a part of it was met before."""
    together = terms_and_length(f"{text} Kiel")
    apart = [terms_and_length(part) for part in text.split()]
    assert together == ([*(term for found, _ in apart for term in found), "kiel"], sum(n for _, n in apart) + 1)


@given(texts)
def test_every_word_of_a_question_is_a_term_of_the_same_text(text: str) -> None:
    present = set(terms(text))
    words = words_of(text, stop_words=True, similar_words=False)
    assert {word.term for word in words} <= present
    assert {word.of for word in words if word.of} <= {word.term for word in words if not word.of}


def test_what_is_kept_of_earlier_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, known = terms_module._Pieces(), terms_module._Words()
    monkeypatch.setattr(terms_module, "_MOST", 5)
    monkeypatch.setattr(terms_module, "_pieces", pieces)
    monkeypatch.setattr(terms_module, "_words", known)
    for text in (
        "Ünal, Łódź, café! 서울에서",
        "Ünal Łódź café 서울에서 Ærø Çeşme Ünal",
        f"{'ñ' * 100} {'東' * 100}",
    ) * 2:
        assert terms(text) == oracle_words.terms(text)
        assert len(pieces) <= 5
        assert len(known) <= 5
    assert all(len(text) <= 64 for text in (*pieces, *known))


# -- function words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "light"),
    [
        ("für fuer fur", {"für": True, "fuer": True, "fur": True}),
        ("fur coat", {"fur": False, "coat": False}),
        ("thé", {"the": False, "thé": False}),
        ("the", {"the": True}),
        ("cuándo cuando", {"cuando": True, "cuándo": True}),
        ("São Paulo", {"sao": True, "são": True, "paulo": False}),
        ("Sao Paulo", {"sao": False, "paulo": False}),
        ("부산에서", {"부산": False, "산에": True, "에서": True}),
        ("손으로", {"손": False, "손으": False, "으로": True}),
        ("사과", {"사과": False}),
        ("an A+", {"an": True, "a": True, "a+": True}),
    ],
)
def test_function_words_are_told_by_how_they_are_spelled(question: str, light: dict[str, bool]) -> None:
    words = words_of(question, stop_words=True, similar_words=False)
    assert {word.term: word.weight < 1 for word in words} == light


def test_words_mean_the_same_with_their_accents() -> None:
    plain, accented, _ = words_of("cafe, fiancé", stop_words=True, similar_words=True)
    assert plain.similar
    assert plain.similar == words_of("Café", stop_words=True, similar_words=True)[0].similar
    assert accented.similar == words_of("fiance", stop_words=True, similar_words=True)[0].similar


def test_function_words_are_no_english_words_without_their_accents() -> None:
    assert not STOP_TERMS & {"fur", "ate", "uber", "perch", "sao"}
