"""A name that a transaction interned and that was rolled back is nobody's, whoever looked it up in between."""

from __future__ import annotations

import pytest

from agentmem import Memory
from agentmem.stores.commit import Write
from agentmem.stores.rows import Stored
from agentmem.stores.writes import Repository
from agentmem.types.inputs import Scope


class Undone(Exception):
    pass


@pytest.mark.parametrize("looked_up", ["by name", "by number"])
def test_what_was_looked_up_inside_a_transaction_is_forgotten_with_it(memory: Memory, looked_up: str) -> None:
    memory.add("a note of ada", user_id="ada")
    commits = memory.handle.engine().commits

    def run(repository: Repository) -> None:
        user, *_, space = repository.numbers_of(Scope("zed", namespace=("desk",)))
        if looked_up == "by name":
            assert repository.scope_key(Scope("zed", namespace=("desk",))) is not None
        else:
            made = Stored._make([1, "x", user, 0, 0, *[None] * (len(Stored._fields) - 5)])
            repository.owner(made._replace(space=space))
        raise Undone

    with pytest.raises(Undone):
        commits.submit(Write(run)).result()
    memory.add("a secret of yan", user_id="yan", namespace=("drawer",))  # gets the numbers that zed had for a moment
    [record] = memory.iterate(user_id="yan", under=())
    assert (record.user_id, record.namespace) == ("yan", ("drawer",))
    assert list(memory.iterate(user_id="zed", under=())) == []
    assert list(memory.iterate(user_id="zed", namespace=("desk",))) == []
