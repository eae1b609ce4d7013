"""Filters on metadata, kind and time, on a support desk's notes.

Run it with ``python examples/filters.py``; it keeps nothing.
"""

from tempfile import TemporaryDirectory

from agentmem import Memory, NewMemory

NOTES = [
    ("Invoice 17 was paid twice, the refund is on its way.", {"topic": "billing", "priority": 2, "tags": ["refund"]}),
    ("Invoice 18 shows the wrong address.", {"topic": "billing", "priority": 1, "tags": ["address"]}),
    ("The export to CSV stops after 1,000 lines.", {"topic": "bug", "priority": 3, "tags": ["export", "csv"]}),
    ("The app crashes when a photo is larger than 20 MB.", {"topic": "bug", "priority": 3, "tags": ["photo"]}),
    ("Could the invoices have a purchase order number?", {"topic": "wish", "tags": ["invoice"]}),
]


def main() -> None:
    with TemporaryDirectory() as folder, Memory(folder) as memory:
        memory.add_many(
            [
                NewMemory(content=text, metadata=metadata, kind="note", id=f"note-{number}")
                for number, (text, metadata) in enumerate(NOTES, 1)
            ],
            agent_id="support",
        )

        def show(title: str, filters: dict[str, object]) -> None:
            hits = memory.search("problem with an invoice", agent_id="support", filters=filters)
            print(f"{title}: {' '.join(sorted(hit.id for hit in hits))}")

        show("topic is billing", {"topic": "billing"})
        show("urgent", {"priority": {"$gte": 2}})
        show("without a priority", {"priority": {"$exists": False}})
        show("tagged csv or refund", {"$or": [{"tags": {"$contains": "csv"}}, {"tags": {"$contains": "refund"}}]})
        show("neither a bug nor a wish", {"topic": {"$nin": ["bug", "wish"]}})

        # Filters hold before the cut to `limit`: the one bug that fits best, not the best hit if it is a bug.
        [hit] = memory.search("invoice", agent_id="support", filters={"topic": "bug"}, limit=1)
        print(f"one bug: {hit.id}")

        print(f"all of them, by page: {' '.join(r.id for r in memory.iterate(agent_id='support', kinds=['note']))}")
        print(f"deleted: {memory.delete_all(agent_id='support', filters={'topic': 'wish'})}")


if __name__ == "__main__":
    main()
