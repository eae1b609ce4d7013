from agentmem.text.dates.language import Doubt, Language

_FRENCH = frozenset(
    "je tu il elle nous vous ils elles on qu que qui quoi est ai as avons avez ont etait quand comment pourquoi chez "
    "pas ne avec dans j d l s c du des les une sur mon ma mes son sa ses".split()
)
_GERMAN_OR_DUTCH = frozenset(
    "ist war waren sind der die das ich wer was wo wie und habe haben hat nicht gibt es mir von ein eine man wir sie "
    "is het de een ik wat waar heb zijn wij niet van ben".split()
)

FRENCH = Language(
    code="fr",
    weekdays_alone=True,
    doubts={"hier": Doubt(_FRENCH, _GERMAN_OR_DUTCH)},
    words={
        "D": {"aujourd hui": 0, "hier": -1, "avant hier": -2, "demain": 1, "après demain": 2},
        "F": {"cette nuit": [(-1, "night"), (0, "night")]},
        "P": {
            "matin | matinée": "morning",
            "midi": "noon",
            "après midi": "afternoon",
            "soir | soirée": "evening",
            "nuit": "night",
        },
        "U": {
            "jour": "day", "jours": "days", "semaine": "week", "semaines": "weeks",
            "week end | weekend": "weekend", "week ends | weekends": "weekends", "mois": "month",
            "trimestre": "quarter", "trimestres": "quarters", "an | année": "year", "ans | années": "years",
            "décennie": "decade", "décennies": "decades", "heure": "hour", "heures": "hours",
            "minute": "minute", "minutes": "minutes",
        },
        "C": {
            "un semestre": (1, "half"),
            "une quinzaine | une quinzaine de jours | quinze jours | 15 jours": (2, "week"),
            "une huitaine | une huitaine de jours | huit jours": (1, "week"),
            "une dizaine de jours": (10, "day"),
            "une demi heure": (30, "minute"),
        },
        "c": {
            "un | une": 1, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5, "six": 6, "sept": 7, "huit": 8, "neuf": 9,
            "dix": 10, "onze": 11, "douze": 12, "treize": 13, "quatorze": 14, "quinze": 15, "vingt": 20, "trente": 30,
            "quelques | plusieurs": (2, 5),
        },
        "h": {"et demi | et demie": None},
        "A": {"ce | cet | cette": "this"},
        "X": {
            "dernier | dernière": ("recent", "last"),
            "derniers | dernières": ("span", "span"),
            "prochain | prochaine": ("next", "next"),
            "prochains | prochaines": ("span ahead", "span ahead"),
        },
        "Z": {"passé | passée": "last", "qui vient": "next"},
        "V": {"il y a | y a": None},
        "v": {"dans": None},
        "W": {"lundi": 0, "mardi": 1, "mercredi": 2, "jeudi": 3, "vendredi": 4, "samedi": 5, "dimanche": 6},
        "M": {
            "janvier": 1, "février": 2, "juin": 6, "juillet": 7, "août": 8, "septembre": 9, "octobre": 10,
            "novembre": 11, "décembre": 12,
        },
        "m": {"mars": 3, "avril": 4, "mai": 5},
        "b": {"janv": 1, "févr | fév": 2, "avr": 4, "juil": 7, "oct": 10, "nov": 11, "déc": 12},
        "S": {"printemps": 0, "été": 1, "automne": 2, "hiver": 3, "noël": 4},
        "Q": {"t1": 1, "t2": 2, "t3": 3, "t4": 4},
        "r": {"premier | première": 1, "deuxième | second | seconde": 2, "troisième": 3, "quatrième": 4},
        "e": {"début": "early", "mi | milieu": "middle", "fin": "late"},
        "i": {"en | durant | pendant | courant | vers | au mois de | mois de": None},
        "k": {
            "depuis | dès | à partir de | à partir du": "since",
            "jusqu en | jusqu à | jusqu au": "until",
            "avant": "before",
            "après": "after",
        },
        "&": {"et | ou": None},
        "q": {"entre": "between"},
        "j": {"à | au": None},
        "f": {"du | de | d": None},
        "t": {"le | la | les | l": None},
        "E": {"chaque | tous les | toutes les": None},
        "O": {"mon | ma | mes | ton | ta | tes | son | sa | ses | notre | votre | leur | leurs": None},
        "N": {"mardi gras | vendredi saint | jeudi saint | lundi de pâques": None},
    },
)  # fmt: skip
