"""A corpus on Ray: embedded by actors, looked through for repetitions, loaded into a store, exported to a dataset.

Needs the extra `ray`: pip install 'agentmem-db[ray]'. Ray listens on every interface of the machine, whatever address
it is told; here nobody gets in without the token.
"""

import os
import secrets
import tempfile
from pathlib import Path

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}

import ray

from agentmem import Memory
from agentmem.distributed.bulk import embed, near_duplicates
from agentmem.distributed.datasink import write_lance
from agentmem.distributed.datasource import read_lance
from agentmem.distributed.exporting import export
from agentmem.distributed.loading import load

SAID = [
    "Ana is allergic to peanuts.",
    "The heating was repaired in March.",
    "Rui moved to Faro, and works at the harbour there.",
    "The plumber charges 90 euros an hour.",
    "ANA is allergic to peanuts!",
]


def main(folder: Path) -> None:
    rows = [{"id": f"line-{n}", "content": text, "user_id": "ana"} for n, text in enumerate(SAID)]
    corpus = str(folder / "corpus")
    written = write_lance(embed(ray.data.from_items(rows), actors=1), corpus)
    print(f"embedded: {written.rows} rows in version {written.version}")

    for pair in near_duplicates(corpus, threshold=0.9, within=["user_id"]).take_all():
        print(f"nearly the same: {pair['id']} and {pair['other']}")

    for attempt in ("first", "second"):
        loaded = load(read_lance(corpus), folder / "memories")
        print(f"loaded, the {attempt} time: {loaded.added} added, {loaded.there} there already")
    with Memory(folder / "memories") as memory:
        [hit] = memory.search("Where does Rui work?", user_id="ana", limit=1)
        print(f"found: {hit.content}")

    exported = export(folder / "memories", str(folder / "lake"))
    few = read_lance(str(folder / "lake"), filter="content LIKE '%plumber%'", columns=["id", "user_id"]).take_all()
    print(f"exported: {exported.rows} rows; of the plumber: {few}")


if __name__ == "__main__":
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
    ray.shutdown()
