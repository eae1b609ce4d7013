from agentmem.text.dates.language import Language

JAPANESE = Language(
    code="ja",
    spaced=False,
    weekdays_alone=True,
    words={
        "D": {
            "今日 | きょう | 本日": 0, "昨日 | きのう": -1, "一昨日 | おととい": -2, "さきおととい": -3,
            "明日 | あした": 1, "明後日 | あさって": 2,
        },
        "F": {
            "昨夜 | 昨晩 | ゆうべ": [(-1, "night")],
            "一昨晩": [(-2, "night")],
            "今朝 | けさ": [(0, "morning")],
            "今晩 | 今夜": [(0, "night")],
            "明朝": [(1, "morning")],
            "明晩": [(1, "night")],
        },
        "P": {"朝 | 午前": "morning", "昼 | お昼": "noon", "午後": "afternoon", "夕方": "evening", "夜 | 晩": "night"},
        "R": {
            "先週": ("week", -1), "今週": ("week", 0), "来週": ("week", 1), "先々週 | 先先週": ("week", -2),
            "再来週": ("week", 2),
            "先週末": ("weekend", -1), "今週末": ("weekend", 0), "来週末": ("weekend", 1),
            "先月": ("month", -1), "今月": ("month", 0), "来月": ("month", 1), "先々月": ("month", -2),
            "再来月": ("month", 2),
            "去年 | 昨年": ("year", -1), "今年 | 本年": ("year", 0), "来年": ("year", 1),
            "一昨年 | おととし": ("year", -2), "再来年": ("year", 2),
            "前四半期": ("quarter", -1), "今四半期": ("quarter", 0), "来四半期": ("quarter", 1),
        },
        "RS": {
            "昨春": (("year", -1), 0), "昨夏": (("year", -1), 1), "昨秋": (("year", -1), 2), "昨冬": (("year", -1), 3),
        },
        "W": {
            day + word: weekday
            for weekday, day in enumerate("月火水木金土日") for word in ("曜日", "曜")
        },
        "U": {
            "日 | 日間": "days",
            "週 | 週間": "weeks",
            "か月 | ヶ月 | カ月 | ヵ月 | ケ月 | 箇月 | か月間 | ヶ月間 | カ月間": "months",
            "年 | 年間": "years",
            "四半期": "quarter",
            "時間": "hours",
            "分 | 分間": "minutes",
        },
        "C": {"半年": (1, "half"), "半月": (15, "day"), "半時間": (30, "minute")},
        "c": {"数": (2, 5)},
        "A": {
            "過去 | ここ | 直近 | この": "span",
            "前の | この前の | 先の": "last",
            "次の | 今度の": "next",
            "今後 | これから": "span ahead",
        },
        "G": {"前": None},
        "B": {"後": None},
        "K": {"以来 | から | 以降": "since", "以前 | より前": "before", "以後": "after", "まで": "until"},
        "S": {"春": 0, "夏": 1, "秋": 2, "冬": 3, "クリスマス": 4},
        "L": {
            "初め | 上旬 | 初旬 | 頭 | 始め | の初め | の始め": "early",
            "中旬 | 半ば | なかば | の半ば": "middle",
            "末 | 下旬 | の終わり | 終わり": "late",
        },
        "&": {"と": None},
        "f": {"の | 第": None},
        "E": {"毎週 | 毎": None},
        "N": {"明日香": None},
    },
)  # fmt: skip
