"""The words of each language, a file each. Another language is another file, its name here, and rows in the tests."""

from __future__ import annotations

from agentmem.text.dates.language import Language
from agentmem.text.dates.languages.chinese import CHINESE
from agentmem.text.dates.languages.dutch import DUTCH
from agentmem.text.dates.languages.english import ENGLISH
from agentmem.text.dates.languages.french import FRENCH
from agentmem.text.dates.languages.german import GERMAN
from agentmem.text.dates.languages.italian import ITALIAN
from agentmem.text.dates.languages.japanese import JAPANESE
from agentmem.text.dates.languages.portuguese import PORTUGUESE
from agentmem.text.dates.languages.russian import RUSSIAN
from agentmem.text.dates.languages.spanish import SPANISH

LANGUAGES: tuple[Language, ...] = (
    ENGLISH, GERMAN, FRENCH, SPANISH, ITALIAN, PORTUGUESE, DUTCH, RUSSIAN, CHINESE, JAPANESE,
)  # fmt: skip
