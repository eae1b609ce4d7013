"""Function words: what questions are made of whatever they ask about.

How rare a word is in a scope says little of them: memories state things, so "what" and "did" are rare among them.
Words of these lists count ``STOP_WEIGHT`` of what they otherwise would. The lists are short: articles, pronouns,
prepositions, auxiliaries and question words of common languages, without those that mean something in another of the
languages (German "war", French "pour", Spanish "sin", Italian "come"). Languages that are not listed lose nothing.

Spelled with its accent, a word counts as a function word only if it is listed so: "thé" is not "the". Spelled without,
it also does if it is listed with one ("cuando", "uber"), unless that is a word of its own: "fur" is not "für".
"""

from __future__ import annotations

from agentmem.text.words import Form, forms_of

STOP_WEIGHT = 0.1

_WORDS = """
a an the and or but if of at by for with about to from in into on off over under as up down out than so too very not no
is are was were be been being am do does did doing done have has had having will would shall should can could may might
must i me my mine we us our you your he him his she her hers it its they them their this that these those there what
which who whom whose when where why how many much any some s t m re ve ll d didn doesn isn wasn aren weren hasn
haven wouldn couldn shouldn

der die das den dem des ein eine einen einem einer eines und oder aber wenn von zu zum zur bei mit für auf aus nach
über unter ist sind waren wird werden wurde wurden hat haben hatte hatten kann können soll sollte muss ich mich mir
mein meine wir uns unser du dich dir dein er ihm ihn sie ihr ihre ihnen es sich man nicht auch wer wen wem wessen wann
wo wohin woher warum wieso wie welche welcher welches welchen dass

le la les un une des du de et ou où si par avec sans sous dans chez est sont était étaient être été avoir avait ont as
suis je me moi mon ma mes nous notre nos vous votre vos tu te toi ton ta tes il elle ils elles lui leur leurs son sa
ses se ce cet cette ces que qui quoi quel quelle quels quelles quand comment pourquoi combien ne pas

el los las uno una unos unas y o pero del al con por para desde hasta en entre es está están ser fue fueron era han
había yo mi mis nos nosotros tú tus usted ustedes él ella ellos ellas su sus lo qué quién quiénes cuál cuáles cuándo
dónde adónde cómo cuánto cuánta cuántos por porque que se

il lo gli i uno e ed ma di da nel nella dei degli delle della dello sul sulla per tra fra è sono erano essere stato
stata ha hanno aveva io mio mia miei noi nostro voi vostro lui lei loro suo sua suoi che chi cosa quale quali quando
dove perché quanto quanti non ci si

o os as um uma uns umas ao aos da do das dos na nas nos num numa pelo pela com sem até é são está foi foram ser ter tem
tinha eu meu minha seu sua nosso você vocês ele ela eles elas isso este esta esse essa quem qual quais quando onde como
quanto quantos não

het een en van voor op bij tot uit naar om aan zijn waren heeft hebben had werd worden kan ik mij mijn wij ons jij jouw
hij hem zij haar hun dit dat deze niet ook wie wat waar wanneer waarom hoe welke hoeveel
"""
_AMBIGUOUS = """
die war den man hat mine down over off son as ton sous sans chez era e o y i ed d m s t con do das dos na van comment
dove ella elle mia mio lei al les par hem han chi che eu os com ser ma pas wen kan ha sul ate fur perche sao uber
"""
"""Content words, names, initials or endings in another of these languages; the English ones among them stay in."""
_ENGLISH_ALL_THE_SAME = "over off as do d m s t i"


def is_stop(form: Form) -> bool:
    """Whether a word of a question is a function word, spelled as it is."""
    accented = form.spelled and not form.spelled.isascii()
    return form.spelled in _SPELLED if accented else form.term in STOP_TERMS


def _forms(text: str) -> list[Form]:
    return [form for word in text.split() for form in forms_of(word)]


def _terms(text: str) -> set[str]:
    return {term for form in _forms(text) for term in (form.term, *(other for other, _ in form.others))}


_SPELLED = frozenset(form.spelled for form in _forms(_WORDS) if form.spelled)
STOP_TERMS = frozenset(_terms(_WORDS) - (_terms(_AMBIGUOUS) - _terms(_ENGLISH_ALL_THE_SAME)))
