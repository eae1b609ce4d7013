"""Any endpoint that speaks OpenAI's chat completions, by the ``openai`` package (extra ``llm``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from typing import Any, cast

from typing_extensions import override

from agentmem.knowledge.ports import Model, Reply
from agentmem.types.errors import MissingExtraError, ModelError

LONGEST = 4_000_000
"""Characters of an answer; what is longer than any ``max_tokens`` allows is not looked at."""
_FORMAT_WORDS = ("response_format", "json_schema", "structured output")
_REFUSALS = (400, 413, 422)
_DENIALS = (401, 403, 404)


class EndpointModel(Model):
    """A model at an endpoint: OpenAI's, or any that speaks its chat completions (vLLM, Ollama, llama.cpp, LiteLLM).

    ``url`` is the base URL (None: OpenAI's own), ``api_key`` what it wants to see. ``client`` is an ``openai.OpenAI``
    of your own instead of both. Each call is one request: it is never repeated by the client underneath, and ends at
    its timeout even where the server sends a byte now and then.
    """

    def __init__(self, name: str, *, url: str | None = None, api_key: str | None = None, client: Any = None) -> None:
        self._name = name
        self._url = url
        self._key = api_key
        self._given = client
        self._client: Any = client
        self._lock = threading.Lock()
        self._limit = "max_tokens"
        self._tuning: tuple[str, ...] = ("temperature",)

    @property
    @override
    def name(self) -> str:
        return self._name

    @override
    def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        schema: Mapping[str, Any] | None,
        timeout: float,
    ) -> Reply:
        openai = _openai()
        client, deadline = self._opened(openai, timeout), time.monotonic() + timeout
        asked: dict[str, Any] = {"model": self._name, "messages": [dict(message) for message in messages]}
        if schema is not None:
            asked["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "operations", "strict": True, "schema": dict(schema)},
            }
        while True:
            how = {name: max_tokens if name == self._limit else 0 for name in (self._limit, *self._tuning)}
            try:
                return _reply(self._once(openai, client, {**asked, **how}, deadline - time.monotonic()))
            except openai.BadRequestError as exc:
                # A request that was refused for its form costs nothing; the same question in another form may be asked.
                if not self._adapt(str(exc)):
                    raise _mapped(openai, exc) from exc
            except openai.OpenAIError as exc:
                raise _mapped(openai, exc) from exc

    def _once(self, openai: Any, client: Any, asked: dict[str, Any], seconds: float) -> Any:
        """One request. Raises what the client raises, and ``ModelError`` where that does not know what to say."""
        made = Future[Any]()
        # In a thread of its own: the client's timeout is that between two bytes, and not of the whole.
        threading.Thread(target=_run, args=(made, client, asked), name="agentmem-model", daemon=True).start()
        try:
            return made.result(seconds)
        except LateError as exc:
            self._drop(client)
            raise ModelError(f"no answer of {self._name!r} in time", "slow", paid=True) from exc
        except openai.OpenAIError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as exc:  # what is no answer of such an endpoint
            raise ModelError(f"the endpoint's answer is none: {exc}", "down", paid=True) from exc

    def _adapt(self, why: str) -> bool:
        """Ask in the other form from now on that a refusal asks for; False if it asks for none, or for this one."""
        if "max_completion_tokens" in why and self._limit == "max_tokens":
            self._limit = "max_completion_tokens"
            return True
        if "temperature" in why and self._tuning:
            self._tuning = ()
            return True
        return False

    def _opened(self, openai: Any, timeout: float) -> Any:
        with self._lock:
            if self._client is None:
                # A question is not sent elsewhere, or again: neither the key nor what it costs is for that.
                http = openai.DefaultHttpxClient(follow_redirects=False)
                key = self._key or "none"
                self._client = openai.OpenAI(base_url=self._url, api_key=key, timeout=timeout, http_client=http)
            return self._client.with_options(max_retries=0)

    def _drop(self, client: Any) -> None:
        """Give up the connections of a client that hangs, so that its thread ends; one of the caller's is left."""
        if self._given is None:
            with self._lock:
                self._client = None
            client.close()


def _run(made: Future[Any], client: Any, asked: dict[str, Any]) -> None:
    try:
        made.set_result(client.chat.completions.create(**asked))
    except BaseException as exc:
        made.set_exception(exc)


def _openai() -> Any:
    try:
        import openai
    except ImportError as exc:
        raise MissingExtraError("openai is not installed; pip install 'agentmem-db[llm]'") from exc
    return openai


def _reply(found: Any) -> Reply:
    usage = getattr(found, "usage", None)
    asked, told = (_count(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens"))
    choices = getattr(found, "choices", None)
    if not isinstance(choices, list):  # a page, a stream of events, nothing: this is no such endpoint
        raise ModelError("what was answered is no chat completion; is the URL right?", "down", paid=True)
    if not choices:
        return Reply("", asked, told)
    choice: Any = cast("list[Any]", choices)[0]
    message = getattr(choice, "message", None)
    if getattr(choice, "finish_reason", None) == "content_filter" or getattr(message, "refusal", None):
        return Reply("", asked, told)
    text = getattr(message, "content", None)
    text = text if isinstance(text, str) else ""
    return Reply(
        text[:LONGEST], asked, told, cut=getattr(choice, "finish_reason", None) == "length" or len(text) > LONGEST
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _mapped(openai: Any, exc: Any) -> ModelError:
    if isinstance(exc, openai.APITimeoutError):
        return ModelError(f"the endpoint took too long: {exc}", "slow", paid=True)
    if not isinstance(exc, openai.APIStatusError):
        # No connection: nothing was asked. An answer that broke off, or is none, may have cost.
        unconnected = type(exc.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol")
        return ModelError(f"the endpoint cannot be reached: {exc}", "down", paid=not unconnected)
    status, text = int(exc.status_code), str(exc)[:500]
    if status == 429:
        after = cast("Mapping[str, str]", exc.response.headers).get("retry-after", "")
        seconds = float(after) if after.isascii() and after.replace(".", "", 1).isdigit() else None
        return ModelError(f"too many requests: {text}", "busy", paid=False, retry_after=seconds)
    if status in _DENIALS:
        return ModelError(f"the endpoint does not admit this: {text}", "denied", paid=False)
    if status in _REFUSALS:
        if any(word in text.lower() for word in _FORMAT_WORDS):
            return ModelError(f"the endpoint knows no such form: {text}", "unsupported", paid=False)
        return ModelError(f"the endpoint refused the request: {text}", "refused", paid=False)
    return ModelError(f"the endpoint failed: {text}", "down", paid=status >= 500)
