"""The public home of what an embedding model has to be; the meaning is in ``agentmem.types.ports``."""

from agentmem.types.ports import Embedder, RemoteEmbedder, Windowed

__all__ = ["Embedder", "RemoteEmbedder", "Windowed"]
