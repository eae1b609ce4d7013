"""A memory in three shards on Ray: searched as one, one of its processes killed, one of its shards moved.

Needs the extra `ray`: pip install 'agentmem-db[ray]'. Some of Ray's ports are open on every interface of the machine,
whatever address it is told; here nobody gets in without the token.
"""

import os
import signal
import tempfile
from pathlib import Path

from agentmem import ALL
from agentmem.distributed import clusterlocal
from agentmem.distributed.cluster import Cluster

SAID = {
    "ana": "Ana is allergic to peanuts.",
    "rui": "Rui moved to Faro, and works at the harbour there.",
    "eva": "Eva plays the violin.",
    "leo": "Leo's plumber charges 90 euros an hour.",
}


def main(folder: Path) -> None:
    with Cluster(folder / "memories", shards=3, root=folder / "stores") as cluster:
        for user, text in SAID.items():
            cluster.add(text, user_id=user)
        print(f"ana's, from one shard: {cluster.search('what may she not eat?', user_id='ana')[0].content}")
        found = cluster.search("who lives at the sea?", user_id=ALL, limit=1)
        print(f"everybody's, from {len(cluster.map().shards)} shards: {found[0].content}")

        shard = cluster.shard_of("eva")
        before = cluster.shards()[shard]
        os.kill(before.pid, signal.SIGKILL)
        print(f"after a kill: {cluster.search('music', user_id='eva')[0].content}")
        print(f"another process: {cluster.shards()[shard].pid != before.pid}")

        moved = cluster.move(shard)
        print(f"moved: {moved.records > 0}, still there: {cluster.count(user_id=ALL)} of {len(SAID)}")
        cluster.shutdown()


if __name__ == "__main__":
    clusterlocal.start()
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
