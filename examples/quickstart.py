"""The main job: remember things, find them, see why they were found and what happened to them.

Run it with ``python examples/quickstart.py``; it keeps nothing.
"""

from tempfile import TemporaryDirectory

from agentmem import Memory


def main() -> None:
    with TemporaryDirectory() as folder, Memory(folder) as memory:
        home = memory.add("Ana moved to Lisbon in March.", user_id="ana", metadata={"topic": "home"})
        memory.add_many(
            [
                "Ana is vegetarian and allergic to peanuts.",
                "Ana plays the cello in a string quartet.",
                {"role": "user", "content": "My landlord raised the rent again."},
            ],
            user_id="ana",
        )
        memory.add("Ben collects stamps.", user_id="ben")

        print("What food should she avoid?")
        for hit in memory.search("What food should she avoid?", user_id="ana", limit=2, explain=True):
            print(f"  {hit.score:.2f} {hit.content}")
            if hit.details is not None:
                print(f"       meaning {hit.details.vector:.2f}, words {hit.details.matched_terms}")

        print("Does Ben's search see Ana's memories?")
        print(f"  {[hit.content for hit in memory.search('Which instrument?', user_id='ben')]}")

        memory.update(home.id, content="Ana moved to Porto in May.")
        print("History")
        for event in memory.history(home.id):
            print(f"  version {event.version} {event.event} {event.data}")

        print("For a prompt")
        print(memory.context("Where does Ana live, and what does she do?", max_tokens=60, user_id="ana"))


if __name__ == "__main__":
    main()
