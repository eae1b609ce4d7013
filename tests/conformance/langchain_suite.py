"""The test classes that LangChain installs for those who implement its interfaces, inherited."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from agentmem import Memory
from agentmem.adapters.langchain import AgentMemRetriever, AgentMemVectorStore

memory = Memory(":memory:")


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[AgentMemVectorStore]:
        with AgentMemVectorStore(":memory:", embedding=self.get_embeddings()) as store:
            yield store


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[AgentMemRetriever]:
        return AgentMemRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        memory.add_many([f"Ana drinks tea number {n}." for n in range(5)], user_id="ana")
        return {"memory": memory, "user_id": "ana"}

    @property
    def retriever_query_example(self) -> str:
        return "What does Ana drink?"
