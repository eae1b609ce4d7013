from agentmem.text.dates.language import Language

_WEEKDAYS = {
    "montag": 0, "dienstag": 1, "mittwoch": 2, "donnerstag": 3, "freitag": 4, "samstag": 5, "sonnabend": 5,
    "sonntag": 6,
}  # fmt: skip
_PARTS = {
    "morgen": "morning", "früh": "morning", "vormittag": "morning", "mittag": "noon", "nachmittag": "afternoon",
    "abend": "evening", "nacht": "night",
}  # fmt: skip

GERMAN = Language(
    code="de",
    dotted=True,
    words={
        "D": {"heute": 0, "gestern": -1, "vorgestern": -2, "vorvorgestern": -3, "übermorgen": 2},
        "H": {"morgen": None},
        "F": {"heute nacht": [(-1, "night"), (0, "night")]},
        "P": {part: value for part, value in _PARTS.items() if part != "morgen"},
        "WP": {day + part: (number, value) for day, number in _WEEKDAYS.items() for part, value in _PARTS.items()},
        "U": {
            "tag | tages": "day", "tage | tagen": "days", "woche": "week", "wochen": "weeks",
            "wochenende | wochenendes": "weekend", "wochenenden": "weekends", "monat | monats": "month",
            "monate | monaten": "months", "quartal | quartals": "quarter", "quartale | quartalen": "quarters",
            "jahr | jahres": "year", "jahre | jahren": "years", "jahrzehnt": "decade",
            "jahrzehnte | jahrzehnten": "decades", "stunde": "hour", "stunden": "hours", "minute": "minute",
            "minuten": "minutes",
        },
        "C": {
            "einem halben jahr | ein halbes jahr | halben jahr | halbes jahr": (1, "half"),
            "anderthalb jahren | eineinhalb jahren": (1.5, "year"),
            "anderthalb wochen | eineinhalb wochen": (1.5, "week"),
            "einer halben stunde": (30, "minute"),
        },
        "c": {
            "ein | eine | einem | einer | einen": 1, "zwei": 2, "drei": 3, "vier": 4, "fünf": 5, "sechs": 6,
            "sieben": 7, "acht": 8, "neun": 9, "zehn": 10, "elf": 11, "zwölf": 12, "dreizehn": 13, "vierzehn": 14,
            "fünfzehn": 15, "zwanzig": 20, "dreißig": 30,
            "ein paar | paar | einige | einigen | wenige | wenigen | mehrere | mehreren": (2, 5),
        },
        "A": {
            "letzte | letzten | letzter | letztes | letztem": "last",
            "vergangene | vergangenen | vergangener | vergangenes": "last",
            "vorige | vorigen | voriger | voriges": "last",
            "diese | diesen | dieser | dieses | diesem": "this",
            "nächste | nächsten | nächster | nächstes": "next",
            "kommende | kommenden | kommender | kommendes": "coming",
            "vorletzte | vorletzten | vorletzter | vorletztes": "second last",
            "übernächste | übernächsten | übernächster | übernächstes": "second next",
        },
        "V": {"vor": "before"},
        "W": _WEEKDAYS,
        "M": {
            "januar | jänner": 1, "februar": 2, "juli": 7, "september": 9, "oktober": 10, "november": 11,
            "dezember": 12,
        },
        "m": {"märz": 3, "april": 4, "mai": 5, "juni": 6, "august": 8},
        "b": {"feb": 2, "mrz | mär": 3, "apr": 4, "aug": 8, "sept | sep": 9, "okt": 10, "nov": 11, "dez": 12},
        "u": {"jan": 1, "jun": 6, "jul": 7},
        "S": {"frühling | frühlings | frühjahr | frühjahrs": 0, "sommer | sommers": 1, "herbst | herbstes": 2,
              "winter | winters": 3, "weihnachten": 4},
        "Q": {"q1": 1, "q2": 2, "q3": 3, "q4": 4},
        "r": {"ersten | erstes | erste": 1, "zweiten | zweites | zweite": 2, "dritten | drittes | dritte": 3,
              "vierten | viertes | vierte": 4},
        "e": {
            "anfang | beginn": "early",
            "mitte": "middle",
            "ende": "late",
            "erste hälfte | ersten hälfte": "first half",
            "zweite hälfte | zweiten hälfte": "second half",
        },
        "i": {"im | in | während | um": None},
        "d": {"am": None},
        "k": {"seit | ab": "since", "bis | bis zum | bis zur": "until", "nach": "after"},
        "&": {"und | oder": None},
        "q": {"zwischen": "between", "vom | von": "from"},
        "f": {"des": None},
        "t": {"der | die | das | den | dem": None},
        "E": {
            "jeden | jede | jedes | jeder | alle": None,
            "montags | dienstags | mittwochs | donnerstags | freitags | samstags | sonntags": None,
        },
        "O": {
            "mein | meine | meinem | meinen | meiner | dein | deine | deinem | deinen | deiner": None,
            "sein | seine | seinem | seinen | seiner | ihr | ihre | ihrem | ihren | ihrer | unser | unsere": None,
        },
        "N": {"guten morgen | eines morgens": None},
    },
)  # fmt: skip
