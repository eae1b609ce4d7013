from agentmem.text.dates.language import Language

_WEEKDAYS = {"一": 0, "二": 1, "三": 2, "四": 3, "五": 4, "六": 5, "日": 6, "天": 6}
_WEEKS = ("周", "週", "星期", "礼拜", "禮拜")
_SHIFTS = {
    "上上": -2, "上上个": -2, "上": -1, "上个": -1, "上個": -1, "这": 0, "这个": 0, "這": 0, "這個": 0, "本": 0,
    "下": 1, "下个": 1, "下個": 1, "下下": 2, "下下个": 2,
}  # fmt: skip
_PARTS = {
    "凌晨": "morning", "清晨": "morning", "早上": "morning", "早晨": "morning", "上午": "morning", "中午": "noon",
    "下午": "afternoon", "傍晚": "evening", "晚上": "night", "夜里": "night", "深夜": "night",
}  # fmt: skip

CHINESE = Language(
    code="zh",
    spaced=False,
    weekdays_alone=True,
    words={
        "D": {"今天 | 今日": 0, "昨天 | 昨日": -1, "前天 | 前日": -2, "大前天": -3, "明天 | 明日": 1, "后天 | 後天": 2,
              "大后天": 3},
        "F": {
            "昨晚 | 昨夜": [(-1, "night")],
            "前晚": [(-2, "night")],
            "今早 | 今晨": [(0, "morning")],
            "今晚 | 今夜": [(0, "night")],
            "明早": [(1, "morning")],
            "明晚": [(1, "night")],
        },
        "P": _PARTS,
        "AcU": {"前几天 | 前些天": ("span", (2, 5), "days")},
        "R": {
            **{shift + week: ("week", by) for shift, by in _SHIFTS.items() for week in _WEEKS},
            **{shift + "周末": ("weekend", by) for shift, by in _SHIFTS.items()},
            **{shift + "週末": ("weekend", by) for shift, by in _SHIFTS.items()},
            **{shift + "季度": ("quarter", by) for shift, by in _SHIFTS.items()},
            **{shift + month: ("month", by) for shift, by in _SHIFTS.items() for month in ("月", "個月")},
            "今年 | 本年": ("year", 0), "去年": ("year", -1), "前年": ("year", -2), "明年": ("year", 1),
            "后年 | 後年": ("year", 2),
        },
        "RW": {
            shift + week + day: (("week", by), weekday)
            for shift, by in _SHIFTS.items() for week in _WEEKS for day, weekday in _WEEKDAYS.items()
        },
        "W": {week + day: weekday for week in _WEEKS for day, weekday in _WEEKDAYS.items()},
        "U": {
            "天 | 日": "days",
            "周 | 週 | 个星期 | 個星期 | 星期 | 个礼拜 | 礼拜": "weeks",
            "个周末": "weekends",
            "个月 | 個月": "months",
            "季度 | 个季度": "quarter",
            "年": "years",
            "小时 | 个小时 | 小時 | 個小時": "hours",
            "分钟 | 分鐘": "minutes",
        },
        "C": {"半年": (1, "half"), "半个月 | 半個月": (15, "day"), "半小时 | 半个小时": (30, "minute")},
        "c": {"几 | 幾 | 数": (2, 5)},
        "A": {"过去 | 過去 | 最近 | 近 | 这 | 這": "span", "接下来 | 未来": "span ahead"},
        "G": {"前 | 之前 | 以前": None},
        "B": {"后 | 後 | 之后 | 以后": None},
        "K": {"以来 | 起": "since"},
        "S": {
            "春天 | 春季": 0, "夏天 | 夏季": 1, "秋天 | 秋季": 2, "冬天 | 冬季": 3, "圣诞节 | 聖誕節": 4,
        },
        "L": {
            "初 | 上旬 | 年初 | 月初": "early",
            "中旬": "middle",
            "底 | 末 | 下旬 | 年底 | 年末 | 月底 | 月末": "late",
            "上半年": "first half",
            "下半年": "second half",
        },
        "k": {"自 | 自从 | 从": "since"},
        "j": {"到 | 至": None},
        "&": {"和 | 或": None},
        "f": {"的 | 第": None},
        "E": {"每 | 每个 | 每周 | 每週 | 每星期 | 每天": None},
    },
)  # fmt: skip
