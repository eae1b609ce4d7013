"""The public home of what models have to be, embedding models and language models."""

from agentmem.knowledge.ports import Model, Reply
from agentmem.types.ports import Embedder, RemoteEmbedder, Windowed

__all__ = ["Embedder", "Model", "RemoteEmbedder", "Reply", "Windowed"]
