"""A support bot with blocks: what it is, and what it knows of each customer, edited as it learns.

It needs no model: the "model" here is a few lines that stand for one, so that what is remembered, and what a prompt
holds of it, can be seen. Each conversation is held by a process of its own, as it were: the store is opened and closed.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from agentmem import Blocks, ConflictError, Memory, Prompt

RULES = "Never promise refunds. Ask for the order's number first."
SAID = [
    ["Hello, I am Rui. My order 1187 has not arrived.", "I moved: I live in Faro now."],
    ["It is me again. Where is my order?"],
]


def learn(human: Blocks, text: str) -> None:
    """What a model would do with a tool: write into the block what is worth keeping."""
    if "I am " in text:
        human.append("human", f"Name: {text.split('I am ')[1].split('.')[0]}", reason="introduced himself")
    if "order 1187" in text:
        human.append("human", "Open case: order 1187, not arrived.", reason="reported")
    if "I live in " in text:
        human.append("human", f"Lives in {text.split('I live in ')[1].split(' now')[0]}.", reason="moved")


def answer(prompt: Prompt) -> str:
    """What a model would say, given the prompt."""
    known = prompt.messages()[0]["content"]
    return "Your order 1187 is on its way to Faro." if "1187" in known and "Faro" in known else "How can I help?"


def converse(path: Path, run: str, said: list[str], model: Callable[[Prompt], str]) -> None:
    """One conversation, by a process that begins with nothing but the store."""
    with Memory(path) as memory:
        rules, human = memory.blocks(agent_id="support"), memory.blocks(user_id="rui")
        for blocks, label, value in ((rules, "rules", RULES), (human, "human", "")):
            try:
                blocks.create(label, value, read_only=label == "rules")
            except ConflictError:
                pass  # it is there already, whoever made it
        session = memory.session(run, user_id="rui", agent_id="support")
        for text in said:
            session.append({"role": "user", "content": text})
            learn(human, text)
            prompt = session.prompt(max_tokens=1_500)
            session.append({"role": "assistant", "content": model(prompt)})
            print(f"rui: {text}\nbot: {session.turns(1)[0].content}")
        print(f"prompt: {prompt.manifest.sections}, prefix {prompt.manifest.prefix[:8]}")
        session.close()


def main() -> None:
    with TemporaryDirectory() as folder:
        for number, said in enumerate(SAID, 1):
            print(f"--- conversation {number}")
            converse(Path(folder), f"case-{number}", said, answer)
        with Memory(folder) as memory:
            for version in memory.blocks(user_id="rui").history("human"):
                print(f"version {version.version}: {version.value!r} ({version.reason})")


if __name__ == "__main__":
    main()
