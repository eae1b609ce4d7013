"""Everything that can be tuned, with defaults that need no tuning.

A setting has one path, its key in a TOML file: ``memory.performance.batch_size``. The same path is an environment
variable (``AGENTMEM_MEMORY__PERFORMANCE__BATCH_SIZE``) and, without ``memory``, arguments of ``Settings``:
``Settings(performance={"batch_size": 8})``. What is under ``performance`` may also be given flat:
``Settings(batch_size=8)``. Code goes before the environment, that before the file, that before the defaults.
"""
# What a setting does belongs to whoever reads it; here it has its name, its limits and its default. Imports ``types``.

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from agentmem.settings import sources
from agentmem.settings.sources import Values
from agentmem.types.enums import Layer
from agentmem.types.errors import InvalidInputError, shown
from agentmem.types.zones import check_zone


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Layer(_Section):
    max_size_mb: float = Field(gt=0)
    """Text, metadata and vectors that the layer may hold, in MiB."""


class _Promoting(_Layer):
    eviction_policy: Literal["importance", "lru", "never"] = "importance"
    """What goes first when the layer is full: least importance * recency / size, least recently used, or nothing."""
    promotion_threshold: float = Field(ge=0, le=1)
    """The score must be above this."""
    promotion_accesses: int = Field(ge=0)
    """More accesses than this."""
    promotion_span_hours: float = Field(ge=0)
    """More hours than this between the first and the last access."""
    promotion_rating: float = Field(ge=0, le=5)
    """A rating above this, where there is one."""
    promotion_relevance: float = Field(ge=0, le=1)
    """Relevance above this."""


class Interact(_Promoting):
    """``[memory.layers.interact]``: what was said in passing."""

    ttl_hours: float = Field(default=24, ge=0, le=876_000)
    """Hours after which a record is promoted or expires; 0: never."""
    max_size_mb: float = Field(default=512, gt=0)
    promotion_threshold: float = Field(default=0.7, ge=0, le=1)
    promotion_accesses: int = Field(default=3, ge=0)
    promotion_span_hours: float = Field(default=12, ge=0)
    promotion_rating: float = Field(default=4.0, ge=0, le=5)
    promotion_relevance: float = Field(default=0.8, ge=0, le=1)


class Insights(_Promoting):
    """``[memory.layers.insights]``: what has proved useful."""

    ttl_days: float = Field(default=90, ge=0, le=36_500)
    """Days after which a record is promoted or expires; 0: never."""
    max_size_mb: float = Field(default=2_048, gt=0)
    promotion_threshold: float = Field(default=0.9, ge=0, le=1)
    promotion_accesses: int = Field(default=10, ge=0)
    promotion_span_hours: float = Field(default=720, ge=0)
    promotion_rating: float = Field(default=4.5, ge=0, le=5)
    promotion_relevance: float = Field(default=0.95, ge=0, le=1)


class Assets(_Layer):
    """``[memory.layers.assets]``: what is kept."""

    ttl_days: float = Field(default=0, ge=0, le=36_500)
    """Days after which a record expires; 0: never."""
    max_size_mb: float = Field(default=8_192, gt=0)
    eviction_policy: Literal["never"] = "never"
    """Assets are never evicted: a full layer refuses what is added or promoted to it."""


class Layers(_Section):
    """``[memory.layers]``"""

    interact: Interact = Interact()
    insights: Insights = Insights()
    assets: Assets = Assets()


class Lifecycle(_Section):
    """``[memory.lifecycle]``"""

    sweep_interval_s: float = Field(default=60, ge=0, le=86_400)
    """Seconds between two sweeps in the background; 0: none, call ``sweep`` yourself."""
    promotion_gate: Literal["all", "any"] = "all"
    """Whether a promotion needs every criterion or any one of them."""
    grace_days: float = Field(default=30, ge=0, le=36_500)
    """Days for which an expired or evicted record can be restored; then its text is erased."""
    recency_half_life_days: float = Field(default=7, gt=0, le=36_500)
    """Days without access after which recency has halved."""
    frequent_accesses: int = Field(default=20, ge=1)
    """Accesses at which frequency is 1."""
    relevant_similarity: float = Field(default=0.5, gt=0, le=1)
    """Similarity from which a first hit is as relevant as it gets; depends on the embedding model."""
    scorer: Literal["formula", "learned", "auto"] = "formula"
    """What scores memories for promotion and tiers: the formula; a model that is learned from which of the store's
    memories were used again; or whichever of the two tells that better (docs/lifecycle.md)."""
    session_ttl_days: float = Field(default=90, ge=0, le=36_500)
    """Days after its last turn for which a session lives, and its turns with it; 0: for good."""


class Retrieval(_Section):
    """``[memory.retrieval]``: what search looks at; docs/retrieval.md has what each part brings."""

    vector_weight: float = Field(default=0.3, ge=0, le=1)
    """Share of the similarity of meaning in hybrid scores; the rest is that of the words."""
    stop_words: bool = True
    """Function words in a question ("what", "did", "der") count a tenth of what their rarity would give them."""
    similar_words: bool = True
    """A word of a question also finds words that mean about the same (English)."""
    neighbours: int = Field(default=4, ge=0, le=8)
    """Turns before and after a memory in the same run whose words count for it too, less with each step; 0: none."""
    weigh_questions: bool = True
    """Memories count less as far as they are questions themselves, a little more where they answer one."""
    question_dates: bool = True
    """A date in a question favours memories from then."""
    time_zone: str | None = None
    """Whose days "yesterday" and ``since="2025-03-01"`` are, and the dates in ``context()``: an IANA name such as
    "Europe/Berlin"; None: UTC, or the zone that a clock of your own shows."""
    mend_typos: bool = True
    """A word that no memory has also finds what is one letter away (in scopes that are searched in memory)."""

    @field_validator("time_zone", mode="before")
    @classmethod
    def _name_of_zone(cls, value: object) -> object:
        return getattr(value, "key", value)  # a ZoneInfo's

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str | None) -> str | None:
        if value is not None:
            check_zone(value)
        return value


class Performance(_Section):
    """``[memory.performance]``"""

    batch_size: int = Field(default=32, ge=1, le=10_000)
    """Requests embedded together at most. None waits for company: only those that find every worker busy are joined."""
    batch_timeout_ms: float = Field(default=100, ge=0, le=60_000)
    """Longest that a request may wait for company; a bound that always holds, since none waits."""
    embed_threads: int = Field(default=2, ge=1, le=64)
    """Threads that embed at the same time; a blocking caller who is alone may embed on its own."""
    embedding_cache_size: int = Field(default=10_000, ge=0)
    """Embeddings kept in memory, least recently used out first."""

    query_cache_size: int = Field(default=1_000, ge=0)
    """Search results kept in memory; each is dropped when its scope changes."""
    query_cache_ttl_minutes: float = Field(default=30, ge=0)
    """Longest that a cached search result is used."""
    arena_limit: int = Field(default=50_000, ge=0)
    """Records up to which a scope is searched exactly in memory."""
    large_engine: Literal["auto", "rabitq", "int8", "hnsw", "lancedb"] = "auto"
    """What searches larger scopes: codes in memory, of FAISS ("rabitq", with the extra ``faiss``) or a byte a number
    ("int8"); "auto" takes FAISS where it is installed. "hnsw" puts a graph in front of these, with the extra ``hnsw``:
    quicker, with fifteen times the memory, made in the background. "lancedb" keeps nothing in memory: slower, and less
    exact."""
    large_budget_mb: int = Field(default=1_024, ge=1)
    """Memory for the codes and words of larger scopes together, least recently used out first; a scope that alone would
    need more is searched as by "lancedb"."""
    large_wait_s: float = Field(default=0.5, ge=0, le=3_600)
    """Longest that a search waits for a larger scope to be read into memory; after that it is searched as by "lancedb"
    until it is there."""
    arena_budget_mb: int = Field(default=256, ge=1)
    """Memory for the arenas of all scopes together, least recently used out first."""
    hnsw_m: int = Field(default=16, ge=2, le=128)
    """Links per record of an HNSW graph."""
    hnsw_ef_construction: int = Field(default=200, ge=1, le=10_000)
    """Candidates looked at when a record enters an HNSW graph."""
    hnsw_ef_search: int = Field(default=100, ge=1, le=10_000)
    """Candidates looked at when an HNSW graph is searched, if no more are asked for."""

    lock_timeout_s: float = Field(default=30, gt=0)
    """Longest wait for another process that is writing, then ``StoreLockedError``."""
    follower_group: int = Field(default=5_000, ge=1, le=100_000)
    """Changes after which LanceDB is brought up to date at once."""
    follower_delay_s: float = Field(default=5, ge=0)
    """Seconds after which LanceDB is brought up to date however few the changes."""


class Hot(_Section):
    """``[memory.tiers.hot]``: what is used now and has proved its worth."""

    size_gb: float = Field(default=0.016, ge=0)
    """Memory for vectors of hot memories, in GB: of 256 numbers, 1,000 to the megabyte."""
    score: float = Field(default=0.8, ge=0, le=1)
    """The lifecycle's score from which a memory is hot; it stays so until it has a tenth less."""
    idle_hours: float = Field(default=24, gt=0)
    """Hours without use after which a memory is hot no more."""
    device: str = Field(default="auto", pattern=r"^(auto|none|cuda(:\d+)?)$")
    """Graphics cards that compare all vectors of large scopes, with the extra ``gpu``: "auto" takes those that there
    are, "cuda:1" that one, "none" none. Without one, or where it fails, codes go on, and ``health()`` says so."""
    device_size_gb: float = Field(default=4, ge=0)
    """Memory on the cards together; a scope that alone would need more is found by codes."""
    cards: Literal["shards", "replicas"] = "shards"
    """Several cards share the vectors among them, or each of them has all, and they take turns."""
    precision: Literal["float16", "float32"] = "float16"
    """What a number is kept in there."""
    gc_threshold: float = Field(default=0.8, ge=0, le=1)
    """Share of the vectors on a card, or in a graph, that has to be of use still: below it they are made anew, without
    those that were deleted or replaced."""


class Warm(_Section):
    """``[memory.tiers.warm]``: what was used lately."""

    size_gb: float = Field(default=0.032, ge=0)
    """Memory for vectors of warm memories, in GB. A search compares all of them: 7 ms for 50,000 of 256 numbers."""
    engine: Literal["auto", "rabitq", "int8", "hnsw", "lancedb"] = "auto"
    """What finds the rest of large scopes; "auto": what ``performance.large_engine`` names, where these are told
    apart."""
    idle_hours: float = Field(default=72, gt=0)
    """Hours without use after which a memory is warm no more."""


class Cold(_Section):
    """``[memory.tiers.cold]``: the rest."""

    size_gb: float | None = Field(default=None, gt=0)
    """Memory for codes and words of large scopes, in GB; None: ``performance.large_budget_mb``, where it is said what
    that means."""
    index: Literal["auto", "ivf_rq", "none"] = "auto"
    """How what has no codes in memory is found on the disk: by an index of LanceDB's, which may miss some ("ivf_rq"),
    or by reading all of it ("none"); "auto" makes the index where large scopes are searched there."""


class Tiers(_Section):
    """``[memory.tiers]``: which memories of large scopes are searched exactly; docs/tiers.md says more."""

    interval_s: float = Field(default=60, ge=0, le=86_400)
    """Seconds between two looks at what has been used; 0: one is taken only when something is placed."""
    hot: Hot = Hot()
    """What is searched exactly first of all."""
    warm: Warm = Warm()
    """What is searched exactly as far as there is room."""
    cold: Cold = Cold()
    """What is found by codes, or on the disk."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.hot.idle_hours > self.warm.idle_hours:
            raise ValueError(
                f"hot.idle_hours = {self.hot.idle_hours:g} is more than warm.idle_hours = {self.warm.idle_hours:g}"
            )
        return self


class Backup(_Section):
    """``[memory.backup]``: where backups go, and what seals them; docs/backup.md says more.

    Credentials are no settings: they come from the environment, as the vendor's own tools take them.
    """

    url: str | None = None
    """A folder's path, or ``s3://``, ``gs://``, ``az://`` with bucket and prefix; None: there are no backups."""
    encryption: str | None = None
    """Where the master key comes from: ``file:PATH``, ``env:NAME`` or ``command:PROGRAM``; None: backups are not
    sealed."""
    keyring: str | None = None
    """Where the users' keys lie, neither inside of ``url`` nor around it; needed with ``encryption``."""
    interval_s: float = Field(default=0, ge=0, le=86_400)
    """Seconds after which what has changed is backed up by itself, while the store is open; 0: it is not. 10 is a good
    choice. Closing the store backs up what is left."""
    after_changes: int = Field(default=0, ge=0)
    """Changes after which they are backed up at once, without waiting for the interval; 0: however many. So it is, with
    any of these three, when a layer is 60 % full, since records may be evicted soon."""
    on_close: bool = False
    """Whether closing the store backs up what has changed, also without an interval."""
    full_every_hours: float = Field(default=24, gt=0)
    """After how long such a backup is a full one, which the next ones go on from."""
    keep_hours: float = Field(default=48, ge=0)
    """How long ``prune`` keeps every backup."""
    keep_days: int = Field(default=14, ge=0)
    """For how many days after that it keeps the last full one of each day."""
    keep_weeks: int = Field(default=8, ge=0)
    """And for how many weeks that of each week. Snapshots are kept until they are removed by hand."""
    prove_every_hours: float = Field(default=168, ge=0)
    """Where backups are made by themselves: after how long the newest is restored into a store that nobody keeps, and
    compared with this one, for the first time at once; 0: never. It reads the newest full backup and what follows."""
    prune: bool = False
    """Whether backups that are made by themselves are pruned by themselves, too, after each full one."""

    @field_validator("url", "keyring", mode="before")
    @classmethod
    def _text_of_path(cls, value: object) -> object:
        return os.fspath(value) if isinstance(value, os.PathLike) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.by_itself and not self.url:
            named = next(name for name in ("interval_s", "after_changes", "on_close") if getattr(self, name))
            raise ValueError(f"backup.{named} is set, and backup.url is not: say where backups go")
        return self

    @property
    def by_itself(self) -> bool:
        """Whether backups are made without being asked for."""
        return bool(self.interval_s or self.after_changes or self.on_close)


class Glacier(_Section):
    """``[memory.glacier]``: where archives of old records lie, and what seals them; docs/glacier.md says more.

    Credentials are no settings: they come from the environment, as the vendor's own tools take them.
    """

    url: str | None = None
    """A folder's path, or ``s3://``, ``gs://``, ``az://`` with bucket and prefix; None: nothing can be archived."""
    prefix: str = Field(default="", pattern=r"^(|[a-z0-9][a-z0-9._=-]*(/[a-z0-9][a-z0-9._=-]*)*)$")
    """Below the URL, where several things share a bucket."""
    region: str | None = None
    """That of a bucket of S3; left out, the environment's."""
    encryption: str | None = None
    """Where the master key comes from: ``file:PATH``, ``env:NAME`` or ``command:PROGRAM``; None: archives are not
    sealed."""
    keyring: str | None = None
    """Where the users' keys lie, neither inside of ``url`` nor around it; needed with ``encryption``. May be that of
    ``[memory.backup]``."""
    cold_to_glacier: bool | tuple[Layer, ...] = False
    """Whether what is due to expire by its layer's time is archived instead: True is that for interact and insights, a
    list names the layers, ``assets`` among them or not. What its caller gave a ``ttl`` expires in any case."""
    keep_days: float = Field(default=56, ge=0, le=36_500)
    """Days for which an archive is kept after all of its memories came back, for backups of before."""

    @field_validator("url", "keyring", mode="before")
    @classmethod
    def _text_of_path(cls, value: object) -> object:
        return os.fspath(value) if isinstance(value, os.PathLike) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.cold_to_glacier and not self.url:
            raise ValueError("glacier.cold_to_glacier is set, and glacier.url is not: say where archives go")
        return self

    @property
    def layers(self) -> frozenset[Layer]:
        """Whose records are archived instead of expiring."""
        if isinstance(self.cold_to_glacier, bool):
            return frozenset({Layer.INTERACT, Layer.INSIGHTS} if self.cold_to_glacier else ())
        return frozenset(self.cold_to_glacier)


class StoredValues(_Section):
    """``[memory.values]``: bytes, arrays, tables and files by key; docs/artifacts.md says more."""

    compression: Literal["auto", "zstd", "lz4", "none"] = "auto"
    """What packs each chunk: "auto" tries both on a part of it, and packs nothing that gets not a tenth smaller."""
    compression_level: int = Field(default=3, ge=1, le=19)
    """How hard zstd tries."""
    inline_kb: float = Field(default=64, ge=0, le=256)
    """Chunks of up to so many KiB, as they are packed, lie in the database; others in files beside it."""
    warm_size_gb: float = Field(default=0.064, ge=0)
    """Memory for values that were read lately, in GB."""
    warm_idle_hours: float = Field(default=72, gt=0)
    """Hours without use after which a value is warm no more."""
    hot_size_gb: float = Field(default=0.256, ge=0)
    """Memory for values that were placed in the hot tier, in GB: on a graphics card where there is one."""
    hot_idle_hours: float = Field(default=24, gt=0)
    """Hours without use after which a value is hot no more."""
    hot_gc_threshold: float = Field(default=0.8, gt=0, le=1)
    """Share of that room beyond which values that were replaced or erased are looked for before anything is let go."""
    device: str = Field(default="auto", pattern=r"^(auto|none|cuda(:\d+)?)$")
    """The graphics card for hot arrays, with PyTorch or CuPy: "auto" the first one if there is any, "cuda:1" that one,
    "none" memory."""
    cold_to_glacier_days: float | None = Field(default=None, gt=0)
    """Days without use after which a value goes to the archives of ``[memory.glacier]``; None: it stays. One with a
    ``ttl`` stays in any case, and so does one that was placed elsewhere."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.hot_idle_hours > self.warm_idle_hours:
            raise ValueError(
                f"hot_idle_hours = {self.hot_idle_hours:g} is more than warm_idle_hours = {self.warm_idle_hours:g}"
            )
        return self


class Consolidating(_Section):
    """``[memory.consolidation]``: drawing facts from messages; nothing is asked without ``model``."""

    model: str | None = None
    """The model to ask, by its name at the endpoint."""
    url: str | None = None
    """Base URL of an endpoint that speaks OpenAI's chat completions; None: OpenAI's own."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that has the key; the key itself is never in a file of settings."""
    timeout_s: float = Field(default=60, gt=0, le=600)
    """Seconds for a whole answer."""
    max_output_tokens: int = Field(default=1_500, ge=16, le=100_000)
    """The most that an answer may have; always sent."""
    max_input_tokens: int = Field(default=24_000, ge=4_000, le=1_000_000)
    """The most that a question may have, as it is reserved: a token for each byte, some 4 times what it will be."""
    batch_messages: int = Field(default=20, ge=1, le=500)
    """Messages that are asked about together."""
    shown_facts: int = Field(default=20, ge=0, le=200)
    """Known facts that are shown with them: those that have most to do with them."""
    roles: tuple[str, ...] = ("user",)
    """Whose messages are evidence; those of ``assistant`` are shown besides."""
    max_tries: int = Field(default=5, ge=1, le=100)
    """Calls after which messages are split up where the endpoint fails for them and answers for others."""
    breaker_failures: int = Field(default=3, ge=1, le=100)
    """Failures in a row after which the endpoint is left alone, for a minute at first, then ever longer."""
    max_run_tokens: int | None = Field(default=200_000, ge=0)
    """The most tokens, in and out, that a run may come to; None: no limit. So are the next ones."""
    max_user_day_tokens: int | None = Field(default=500_000, ge=0)
    """Of one user in a day (UTC), in all namespaces."""
    max_day_tokens: int | None = Field(default=5_000_000, ge=0)
    """Of the whole store in a day."""
    price_input: float = Field(default=0, ge=0)
    """What a million tokens of questions cost, in the currency of the next three."""
    price_output: float = Field(default=0, ge=0)
    """What a million tokens of answers cost."""
    max_run_money: float | None = Field(default=None, ge=0)
    """The most money for a run; None: no limit."""
    max_user_day_money: float | None = Field(default=None, ge=0)
    """For one user in a day."""
    max_day_money: float | None = Field(default=None, ge=0)
    """For the whole store in a day."""


class Settings(_Section):
    """Settings of one store. Immutable; an unknown name or an impossible value raises ``InvalidInputError``.

    What is not given comes from the environment, then from the TOML file that ``AGENTMEM_CONFIG`` names, else from
    ``agentmem.toml`` in the working directory if there is one; see ``Settings.load`` to name a file.
    """

    embedder: str | None = None
    """The embedding model where none is given: a name, a folder, or one of your program's as ``module:object``, which
    is imported from wherever Python finds modules. None: the one that the store has, of a new one the bundled one."""
    default_layer: Layer = Layer.ASSETS
    """Layer of plain facts that name none. Session kinds go to ``interact``."""
    message_layer: Layer = Layer.INTERACT
    """Layer of messages (with a role) that name none: there they live a day, unless they prove useful. ``insights``
    keeps them for 90 days, ``assets`` for good."""
    max_content_bytes: int = Field(default=1_048_576, ge=1, le=16_777_216)
    """Longest content accepted, in bytes of UTF-8. Longer text should be split into passages."""
    max_metadata_bytes: int = Field(default=65_536, ge=2, le=1_048_576)
    """Largest metadata accepted, in bytes of JSON."""
    long_text: Literal["windows", "refuse"] = "windows"
    """Text longer than the embedding model reads at once: embedded in parts and averaged, or refused."""
    layers: Layers = Layers()
    """How long records live in each layer, and what moves them to the next."""
    lifecycle: Lifecycle = Lifecycle()
    """Sweeps, and how scores are computed."""
    retrieval: Retrieval = Retrieval()
    """What search looks at beside vectors and words."""
    performance: Performance = Performance()
    """Batches, caches, locks."""
    tiers: Tiers = Tiers()
    """Which memories of large scopes are searched exactly."""
    backup: Backup = Backup()
    """Where backups go."""
    glacier: Glacier = Glacier()
    """Where archives of old records go."""
    values: StoredValues = StoredValues()
    """How values are packed, and where they lie."""
    consolidation: Consolidating = Consolidating()
    """Drawing facts from messages."""

    @field_validator("values")
    @classmethod
    def _archived_somewhere(cls, value: StoredValues, info: ValidationInfo) -> StoredValues:
        glacier = info.data.get("glacier")
        if value.cold_to_glacier_days is not None and not (isinstance(glacier, Glacier) and glacier.url):
            raise ValueError("values.cold_to_glacier_days is set, and glacier.url is not: say where archives go")
        return value

    @property
    def engine_of_large(self) -> Literal["auto", "rabitq", "int8", "hnsw", "lancedb"]:
        """What searches large scopes, by whichever of the two settings names it."""
        return self.performance.large_engine if self.tiers.warm.engine == "auto" else self.tiers.warm.engine

    @property
    def mb_of_large(self) -> float:
        """Memory for codes and words of large scopes, in MB of 1,048,576 bytes."""
        size = self.tiers.cold.size_gb
        return self.performance.large_budget_mb if size is None else size * 10**9 / 1_048_576

    def __init__(self, **values: Any) -> None:
        given = {name: _plain(value) for name, value in values.items()}
        flat = {name: given.pop(name) for name in list(given) if name in Performance.model_fields}
        if flat:
            given = sources.merged(given, {"performance": flat})
        _, from_file = sources.read_file()
        environment = sources.read_environment(Settings.model_fields)
        try:
            super().__init__(**sources.merged(from_file, environment, given))
        except ValidationError as exc:
            raise _refused(exc, flat) from exc

    @classmethod
    def load(cls, file: str | os.PathLike[str] | None = None, **values: Any) -> Settings:
        """Settings from a TOML file (None: the one that ``Settings()`` would read), the environment and ``values``."""
        token = sources.chosen_file.set(None if file is None else Path(file))
        try:
            return cls(**values)
        finally:
            sources.chosen_file.reset(token)

    def flat(self) -> dict[str, Any]:
        """Every setting by its dotted key."""
        return sources.leaves(self.model_dump(mode="json"))


def _plain(value: Any) -> Any:
    """A section that is given as a model counts for what was set in it."""
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value


def _refused(exc: ValidationError, flat: Values) -> InvalidInputError:
    """The first error as ours, naming the key as it was given."""
    first = exc.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    if len(parts) == 2 and parts[0] == "performance" and parts[1] in flat:
        parts = parts[1:]
    name = ".".join(parts)
    hint = ""
    if first["type"] == "extra_forbidden":
        hint = f"; there are: {', '.join(_siblings(parts[:-1]))}"
    message = first["msg"].removeprefix("Value error, ")
    return InvalidInputError(f"setting {name!r}: {message} (got {shown(first['input'])}){hint}", field=name)


def _siblings(path: list[str]) -> list[str]:
    """The settings of a section."""
    section: type[BaseModel] = Settings
    for part in path:
        section = cast("type[BaseModel]", section.model_fields[part].annotation)
    return [*section.model_fields, *(Performance.model_fields if section is Settings else ())]


def origins(file: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Where each setting's value comes from, by dotted key: ``environment``, a file's path, or ``default``."""
    token = sources.chosen_file.set(None if file is None else Path(file))
    try:
        path, table = sources.read_file()
    finally:
        sources.chosen_file.reset(token)
    in_file = sources.leaves(table)
    in_environment = sources.leaves(sources.read_environment(Settings.model_fields))
    return {
        key: "environment" if key in in_environment else str(path) if key in in_file else "default"
        for key in Settings.load(file).flat()
    }
