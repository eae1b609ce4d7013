"""A store that lives in a folder or bucket, and is here as long as nobody else takes it: what shards are made of."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agentmem.client.memory import Memory
from agentmem.types.clock import Clock
from agentmem.types.errors import StoreCorruptError, StoreError, StoreGoneError, StoreLockedError
from agentmem.types.ports import AnyEmbedder

if TYPE_CHECKING:
    from agentmem.archive.home import Place
    from agentmem.backup.fence import Claim, Fence
    from agentmem.backup.shipping import Shipping
    from agentmem.backup.standby import Standby
    from agentmem.settings import Settings

_NOTE = "owner"
"""The file in the store's folder with the token of the owner whose store it is, and the number of his process."""
_ROUNDS, _FEW = 10, 1
"""How often at most one who is to take a store reads on before he does, and with how many increments he is content."""
PATIENCE = 30.0
"""Seconds that an owner waits for what it has written to count."""


class OwnedStore:
    """One owner's share of a store at ``url``: ``take`` makes it this process's, and ``memory`` is then its client.

    Below ``root`` it has a folder for itself; of one that a process of the same name had before, what nobody has taken
    over since is gone on with. Its settings are those of any store, but that what changes is shipped to ``url`` at
    least every ``interval_s`` seconds. ``name`` says who owns it, ``turn`` in which order owners were appointed: one of
    an earlier turn does not take it from one of a later turn.
    """

    def __init__(
        self,
        url: str,
        root: str | os.PathLike[str],
        *,
        name: str,
        turn: int = 0,
        settings: Settings | None = None,
        embedder: AnyEmbedder = None,
        clock: Clock | None = None,
        interval_s: float = 5.0,
    ) -> None:
        from agentmem.settings import Settings

        given = Settings() if settings is None else settings
        kept = given.backup.model_copy(update={"url": url, "interval_s": 0, "after_changes": 0, "on_close": False})
        self._settings = given.model_copy(update={"backup": kept})
        self._url, self._root = url, Path(root)
        self._name, self._turn, self._interval = name, turn, interval_s
        self._embedder, self._clock = embedder, clock
        self._memory: Memory | None = None
        self._fence: Fence | None = None
        self._shipping: Shipping | None = None
        self._standby: Standby | None = None
        self._place: Place | None = None
        self.reused = False
        """Whether the store was here already."""

    @property
    def memory(self) -> Memory:
        """The store's client. Raises ``StoreError`` before ``take``."""
        if self._memory is None:
            raise StoreError(f"{self._url} was not taken yet; call take()")
        return self._memory

    @property
    def claim(self) -> Claim:
        """What this owner last wrote of itself."""
        assert self._fence is not None
        return self._fence.claim

    @property
    def behind(self) -> int:
        """How many events would be lost with this machine."""
        return 0 if self._shipping is None else self._shipping.behind

    def prepare(self) -> int:
        """Read what the owner of now has shipped, while it goes on; the last event of that. For one who takes it
        soon."""
        from agentmem.backup.fence import read
        from agentmem.backup.standby import Standby

        place = self._opened()
        if self._standby is None:
            self._standby = Standby(place.objects, self._fresh(), place.keyring)
        self._standby.follow(read(place.objects))
        self._standby.look_through()
        # More came meanwhile, and is not to be read while nobody serves. Reading is faster than making.
        for _ in range(_ROUNDS):
            if self._standby.follow(read(place.objects)) <= _FEW:
                break
        return self._standby.seq

    def take(self) -> Memory:
        """Own the store from now on, and open it as the last increment that counts says.

        Raises ``FencedError`` where an owner of a later turn has it, and what a restore raises.
        """
        from agentmem.backup.fence import Fence

        place = self._opened()
        self._fence = fence = Fence(place.objects, self._name, self._turn)
        before = fence.take()
        memory = self._at_hand(before) if self._standby is None else None
        self.reused = memory is not None
        self._memory = memory or self._taken_over(place, before)
        return self._memory

    def check(self) -> None:
        """Raise ``FencedError`` if the store is somebody else's by now. Asks the place."""
        assert self._fence is not None
        self._fence.check()

    def check_lately(self, within_s: float) -> None:
        """The same, unless that was asked less than so many seconds ago."""
        assert self._fence is not None
        if time.monotonic() - self._fence.checked_at > within_s:
            self._fence.check()

    def confirm(self) -> None:
        """Wait until all that was written counts, wherever the store goes next."""
        assert self._shipping is not None
        self._shipping.flush(PATIENCE)

    def keep_up(self) -> None:
        """Wait as ``confirm`` does if something has waited for longer than the interval, so that no more is added to
        what would be lost with this machine; else only look whose the store is."""
        assert self._shipping is not None
        if self._shipping.is_late:
            self.confirm()
        self.check()

    def hold_back(self, on: bool) -> None:
        """Ship increments only, since somebody is about to take the store over."""
        assert self._shipping is not None
        self._shipping.hold_back(on)

    def close(self) -> None:
        """Ship what is left, and close the store; it can be taken by anybody."""
        if self._standby is not None:
            self._standby.close()
        if self._memory is not None:
            self._memory.close()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _opened(self) -> Place:
        if self._place is None:
            from agentmem.archive.home import open_place

            chosen = self._settings.backup
            self._place = open_place(chosen.url, chosen.encryption, chosen.keyring, read_only=False)
        return self._place

    def _fresh(self) -> Path:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = 0
        while True:
            number += 1
            path = self._root / f"store-{number}"
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return path

    def _at_hand(self, before: Claim | None) -> Memory | None:
        """The store that the owner before has left here, if it was the last one and can be opened."""
        if before is None:
            return None
        for note in self._root.glob(f"*/{_NOTE}"):
            token, _, owner = note.read_text().partition(" ")
            # One that is merely stopped may have the store's locks, and could go on in the middle of a transaction.
            if token == before.token and not _is_alive(int(owner)):
                with suppress(StoreCorruptError, StoreGoneError, StoreLockedError):
                    return self._open(note.parent)
        return None

    def _taken_over(self, place: Place, before: Claim | None) -> Memory:
        from agentmem.backup.standby import Standby

        path = self._fresh() if self._standby is None else self._standby.into
        standby = self._standby or Standby(place.objects, path, place.keyring)
        self._standby = None
        standby.become(before)
        return self._open(path)

    def _open(self, path: Path) -> Memory:
        from agentmem.backup.shipping import Shipping
        from agentmem.client.backupchecks import retention

        place, fence = self._opened(), self._fence
        assert fence is not None
        memory = Memory(path, settings=self._settings, embedder=self._embedder, clock=self._clock)
        try:
            engine, kept = memory.handle.engine(), retention(memory.handle)
            made = list[Shipping]()

            def ship() -> Shipping:
                made.append(Shipping(engine, place.objects, place.keyring, fence, self._interval, kept))
                return made[0]

            engine.accompany(ship)
            if not made:
                raise StoreLockedError(f"{path} is open in this process already, for somebody else who owns it")
            (path / _NOTE).write_text(f"{fence.claim.token} {os.getpid()}")
        except BaseException:
            memory.close()
            raise
        self._shipping = made[0]
        for other in self._root.iterdir():
            if other != path:
                shutil.rmtree(other, ignore_errors=True)
        return memory


def _is_alive(process: int) -> bool:
    """Whether a process goes on, or may go on, of that number. This one does not count."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's, or a system that does not say
    return state not in "ZX"
