"""Results of tools, kept by what was asked: the second question costs nothing, and an old answer is asked for again.

Run it with ``python examples/tool_cache.py``; it keeps nothing.
"""

import hashlib
import json
import tempfile

from agentmem import Memory

asked = list[str]()


def look_up(city: str) -> dict[str, object]:
    """A tool that takes its time and costs money."""
    asked.append(city)
    return {"city": city, "forecast": ["sun", "sun", "rain"], "raw": "x" * 2_000}


def cached(memory: Memory, tool: str, arguments: dict[str, object], *, user_id: str) -> object:
    """The tool's result for these arguments, at most an hour old."""
    question = json.dumps(arguments, sort_keys=True)
    key = f"{tool}/{hashlib.sha256(question.encode()).hexdigest()}"
    found = memory.values.get(key, user_id=user_id, namespace=("tools",))
    if found is None:
        found = look_up(**arguments)  # pyright: ignore
        memory.values.put(
            key, found, user_id=user_id, namespace=("tools",), ttl=3_600, metadata={"tool": tool, **arguments}
        )
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Memory(folder) as memory:
        for city in ("Porto", "Lisbon", "Porto", "Porto"):
            result = cached(memory, "weather", {"city": city}, user_id="ana")
            print(city, result["forecast"])  # pyright: ignore
        print(f"{len(asked)} calls for 4 questions")

        # Another user's results are another user's, whatever was asked.
        cached(memory, "weather", {"city": "Porto"}, user_id="rui")
        print(f"{len(asked)} calls with Rui's")

        # What is kept of one tool, by its arguments; and gone when the tool has changed.
        kept = memory.values.query({"tool": "weather", "city": "Porto"}, user_id="ana", namespace=("tools",))
        for info in memory.values.list("weather/", user_id="ana", namespace=("tools",)):
            memory.values.delete(info.key, user_id="ana", namespace=("tools",))
        print(
            f"{len(kept)} of Porto, and then {len(memory.values.list(user_id='ana', namespace=('tools',)))} of anything"
        )


if __name__ == "__main__":
    main()
