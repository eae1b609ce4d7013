"""What operations on the store report: plain, immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from agentmem.types.enums import EventType, Layer, Pressure
from agentmem.types.plain import Plain


@dataclass(frozen=True)
class NamespaceCount(Plain):
    """A namespace and the live records in it."""

    namespace: tuple[str, ...]
    records: int


@dataclass(frozen=True)
class Group(Plain):
    """Live records with something in common: their user, agent, conversation or kind."""

    name: str | None
    """The id of the user, the agent or the run, or the kind; None: records without a user."""
    user_id: str | None
    """Whose records they are. None for those of no user, and for a kind, which several may have."""
    records: int
    first_at: datetime
    """The time of the earliest event: ``occurred_at``, or ``created_at`` where that is not set."""
    last_at: datetime


@dataclass(frozen=True)
class KnownUser(Plain):
    """Somebody who has records here."""

    name: str | None
    """The user's id; None: nobody in particular."""
    records: int
    """Live ones, with those whose time ran out since the last sweep."""
    first_at: datetime
    """When the first of them was added."""
    last_at: datetime
    """When the last of them was added."""


@dataclass(frozen=True)
class UserPage(Plain):
    """A page of users; pass ``cursor`` to the next call, ``None`` means that this was the last one."""

    users: list[KnownUser]
    cursor: str | None


@dataclass(frozen=True)
class HoldingBackup(Plain):
    """A backup that still holds what was erased."""

    id: str
    kind: str
    at: datetime
    """When it was made."""
    until: datetime | None
    """From then on ``prune`` removes it, if backups go on being made; None for a snapshot, which is kept."""


@dataclass(frozen=True)
class EraseReport(Plain):
    """What an erase removed, and what is still to go (``pending``)."""

    erased: int
    """How many records."""
    pending: tuple[str, ...]
    """``lancedb``: its copy of the vectors; ``write-ahead log``: somebody was reading for too long; ``ids``: what is
    left of the records and of their user. All of it goes in the background, or with ``compact()``. ``backups``: they
    still have it, those in ``backups`` or, where sealing keys could not be deleted now, until the next backup.
    ``archives``: those of ``tiers.archive`` could not be reached or are in use; a sweep, ``repair()`` or the next erase
    goes on with it. ``values``: files of values could not be removed; the same. ``files``: those in ``arenas``, or what
    a killed proof or restore has left, could not be removed; the next erase tries again. ``set aside``: the store has
    folders ``damaged-…`` or ``replaced-…``, with files that were replaced and may have it; nobody but you removes
    those."""
    backups: tuple[HoldingBackup, ...] = ()
    """Of ``erase_all``: the backups that are not sealed and still hold records of the user, oldest first."""


@dataclass(frozen=True)
class Erasure(Plain):
    """All that is left of a user whose records were erased: that, how many, and when."""

    at: datetime
    records: int


@dataclass(frozen=True)
class BackupInfo(Plain):
    """A backup that is complete."""

    id: str
    """What to call it: the beginning of its lineage, and its number in that."""
    kind: str
    """``"full"``: it needs no other one. ``"snapshot"``: the same, made to be kept. ``"incremental"``: it needs those
    before it, back to one of these."""
    seq: int
    """The last event of the store that it holds."""
    at: datetime
    """When that was."""
    bytes: int
    """Its size, where it is kept."""
    records: int
    """How many there are, deleted and expired ones included."""
    description: str | None


@dataclass(frozen=True)
class RestoreReport(Plain):
    """A store that was made of a backup."""

    path: str
    """Its folder."""
    backup: BackupInfo
    records: int
    """How many it has, deleted and expired ones included: fewer than the backup where keys of users were deleted."""
    seq: int
    """The last event that is in it."""
    embedded: int
    """Records whose texts had been replaced, and were embedded again."""
    without_data: int
    """Records whose data of that moment is in no backup, since ten newer versions came before the next one: they have
    none."""
    dry_run: bool
    """Whether no store was made."""
    restore_point: str | None = None
    """The snapshot of what a store was before it was restored in its place."""
    erased: int = 0
    """Records that there were at that moment, and that were erased since: those stay erased. Without those of users
    whose keys were deleted, and, at a moment between two backups, of users who were erased between them."""


@dataclass(frozen=True)
class ImportReport(Plain):
    """What became of records that were taken over from an archive."""

    added: int
    """Records that were not there; deleted and expired ones included, unless they were brought back."""
    restored: int
    """Records that were there, deleted or changed, and are again what they were; 0 for an import."""
    present: int
    """Records that were there, and were left as they are."""
    changed: tuple[str, ...]
    """Ids of records that were changed since, and were left so."""
    taken_ids: tuple[str, ...]
    """Ids that something else has here, or that were erased; those were left out."""
    taken_keys: tuple[str, ...]
    """Ids of records whose key another one has by now; those were left out."""
    embedded: int
    """Records whose texts were embedded again."""
    archived: tuple[str, ...] = ()
    """Ids of records whose texts lie in archives (docs/glacier.md) of the store that they come from; those were left
    out: ``tiers.rehydrate`` them there, and export them again."""


@dataclass(frozen=True)
class ArchiveReport(Plain):
    """What ``tiers.archive`` moved."""

    archived: int
    """Records whose texts, vectors and data lie in archives now."""
    skipped: int
    """Records that were asked for and stay, since their caller has set an end to them, they changed meanwhile, or the
    package keeps them for itself."""
    archives: int
    """How many archives were written."""
    bytes: int
    """What these take where they lie."""
    dry_run: bool = False
    """Whether nothing was moved."""


@dataclass(frozen=True)
class ReembedReport(Plain):
    """A move from one model to another; ``records`` counts embeddings made by this run (a resumed one makes fewer)."""

    from_model: str
    to_model: str
    records: int


@dataclass(frozen=True)
class Move(Plain):
    """What a sweep does with one record, and the rule behind it; ``to_layer`` is None for a record that goes."""

    id: str
    event: EventType
    from_layer: Layer
    to_layer: Layer | None
    rule: str


@dataclass(frozen=True)
class SweepReport(Plain):
    """What a sweep did, or would do.

    ``blocked`` records are to be promoted to a layer that is full; ``erased`` ones can no longer be restored. ``moves``
    is filled by a dry run only, up to 10,000.
    """

    at: datetime
    """The instant that it went by."""
    promoted: int
    expired: int
    evicted: int
    erased: int
    blocked: int
    examined: int
    """How many records it looked at."""
    moves: tuple[Move, ...] = ()
    archived: int = 0
    """Those that went to an archive instead of expiring (``glacier.cold_to_glacier``)."""


@dataclass(frozen=True)
class Requirement(Plain):
    """One condition of a promotion: ``value`` has to exceed ``threshold``."""

    name: str
    """``score``, ``accesses``, ``span_hours``, ``relevance`` or ``rating``."""
    value: float
    threshold: float
    met: bool


@dataclass(frozen=True)
class Explanation(Plain):
    """Why a record is where it is, what it lacks to move up, and when it is due.

    ``state`` is ``"live"``, ``"archived"``, ``"deleted"`` or ``"expired"``; ``since`` and ``because`` are those of the
    event that brought it there. ``lacks`` names the requirements that are not met, where that keeps it from being
    promoted.
    At ``due_at`` comes ``due_rule``: by ``"ttl"`` (the caller's) it is gone, by ``"layer ttl"`` it is promoted if it is
    eligible then, else it expires. An expired record can be restored before ``restorable_until``.
    """

    id: str
    state: str
    layer: Layer
    kind: str
    pinned: bool
    since: datetime
    because: str
    accesses: int
    """How often it was found by a search, shown in a context, or read."""
    first_access: datetime | None
    last_access: datetime | None
    score: float
    """What it is worth for promotion, in [0, 1]."""
    components: dict[str, float]
    """The parts of the score: ``relevance``, ``recency``, ``frequency``, ``importance``."""
    target_layer: Layer | None
    """The next layer; None for an asset."""
    target_kind: str | None
    """What its kind would become there."""
    eligible: bool
    """Whether the next sweep would promote it."""
    gate: str
    """The setting ``lifecycle.promotion_gate``: ``all`` or ``any`` of the requirements."""
    requirements: tuple[Requirement, ...]
    lacks: tuple[str, ...]
    due_at: datetime | None
    due_rule: str | None
    restorable_until: datetime | None
    scorer: str = "formula"
    """What made the score: ``formula``, or the version of a model (``lifecycle.scorer``)."""


@dataclass(frozen=True)
class ScorerReport(Plain):
    """What scores memories for promotion, and how well it tells which of them are used again."""

    mode: str
    """The setting ``lifecycle.scorer``."""
    in_use: str
    """``formula``, or the version of a model."""
    examples: int
    """Uses of the past that models are made of."""
    used_again: int
    """How many of these were followed by another use within their layer's time."""
    needed: int
    """From how many examples on a model is made."""
    model: str | None
    """The version of the last model that was made, in use or not; None before the first."""
    made: datetime | None
    auc: float | None
    """How often a memory that was used again scored more by the model than one that was not, among examples that it was
    not made of: 0.5 is chance."""
    formula_auc: float | None
    """The same by the formula, of the same examples."""
    weights: dict[str, float]
    """What the model makes of each feature, in log-odds for a standard deviation of it."""


@dataclass(frozen=True)
class ScorerReplay(Plain):
    """Decisions of the learned scorer, computed again from what their events have kept."""

    decisions: int
    same: int
    """Those that come out the same, to the last bit."""
    different: int
    """Those that do not: the history or a model was changed."""
    unknown: int
    """Those by a model that is no longer kept: the last 20 are, and backups have none."""


@dataclass(frozen=True)
class TierStats(Plain):
    """What a tier of large scopes holds in this process, and what it is good for."""

    records: int
    bytes: int
    """Memory for their vectors; of cold ones, for codes, words and columns of the whole scopes."""
    budget: int
    """How many bytes it may take."""
    hits: int
    """How many of the hits in large scopes were in this tier, since the store was opened."""
    hit_rate: float | None
    """That as a share of all; None before the first."""
    p50_ms: float | None
    """Median time that the last searches took in it; None where none did, and for cold ones."""
    objects: int | None = None
    """Of ``glacier``: how many objects its archives are, where ``bytes`` is what they take there. None elsewhere."""
    requests: int | None = None
    """Of ``glacier``: how many requests this process has made there. None elsewhere."""


@dataclass(frozen=True)
class Residence(Plain):
    """Where a record's vector is at hand in this process, and why."""

    id: str
    tier: str | None
    """``hot`` or ``warm``: its vector is compared exactly; ``cold``: found by codes or on the disk. None where
    its scope is searched exactly as a whole, or was not searched yet."""
    belongs: str
    """The tier that the rules have for it."""
    placed: str | None
    """The tier that it was placed in."""
    score: float
    """What it is worth, as ``lifecycle.explain`` has it."""
    accesses: int
    last_access: datetime | None
    because: str
    """The same in words."""


@dataclass(frozen=True)
class LayerStats(Plain):
    """Live records of a layer, the bytes of their text, metadata and vectors, and the layer's limit in bytes."""

    records: int
    bytes: int
    limit: int
    pressure: Pressure


@dataclass(frozen=True)
class Stats(Plain):
    """What the store holds. ``bytes`` are sizes on disk by component."""

    records: int
    """Live ones."""
    deleted: int
    """Hidden by a delete; ``restore`` brings them back."""
    expired: int
    """Expired or evicted."""
    archived: int
    """Those whose texts, vectors and data lie in archives."""
    events: int
    """Changes so far: the last event's ``seq``."""
    by_layer: dict[str, int]
    """Live records of each layer."""
    layers: dict[str, LayerStats]
    pressure: Pressure
    """That of the fullest layer."""
    bytes: dict[str, int]
    """``libsql``, ``wal`` (its write-ahead log) and ``lancedb``."""
    model: str
    """The embedding model's name."""
    dim: int
    """The length of its vectors."""
    arenas: dict[str, int]
    """Scopes kept in memory: ``arenas``, their ``records`` and ``bytes``."""
    large: dict[str, int]
    """The same of large scopes, which are kept as codes, their ``budget`` in bytes, and how many are ``building``."""
    query_cache: dict[str, int]
    """``entries``, ``hits``, ``misses``."""
    embedding_cache: dict[str, int]
    """``hits``, ``misses``; empty where there is none."""


@dataclass(frozen=True)
class Latency(Plain):
    """Milliseconds that calls took: half of them at most ``p50``, and so on. None where there were none."""

    p50: float | None
    p95: float | None
    p99: float | None
    calls: int
    """How many these are of."""


@dataclass(frozen=True)
class Kpis(Plain):
    """Key figures of a store. Rates and latencies are those of this process, of the last five minutes; others may have
    the store open, too."""

    total_size: int
    """Bytes on disk: database, write-ahead log, LanceDB."""
    usage_percent: float
    """How full the fullest layer is, of its limit."""
    pressure: Pressure
    """That layer's: low, medium or high."""
    fragmentation_percent: float
    """How much of the database file is free pages. Of more than a quarter some go back to the disk by themselves, with
    ``compact`` all."""
    search_latency: Latency
    commit_latency: Latency
    """What it took for transactions of this process to be on the disk, once they were written down."""
    qps: float
    """Calls a second: searches, reads and writes."""
    cache_hit_rate: float | None
    """The share of searches that the query cache has answered since the store was opened, in [0, 1]; None before the
    first."""
    promotion_rate: float
    """Memories that were promoted within the last hour, by whatever process; of the last 10,000 changes."""
    error_rate: float
    """The share of calls that failed by the store's fault, in [0, 1]; not those that asked for what cannot be."""
    fallback_rate: float
    """How many searches were answered in another way than meant, because a graph or a graphics card failed, as a share
    of all that this process made since the store was opened (up to the last 8,192)."""
    recovery_time_s: float | None
    """How long the last outage took, from the first call that failed to the next that succeeded; None if there was
    none."""
    uptime_percent: float
    """The share of the time since this process opened the store in which no call failed: 100 less the outages."""
    records: int
    """Live ones."""
    window_s: float
    """Of how many seconds the rates and latencies are."""


@dataclass(frozen=True)
class BackupHealth(Plain):
    """How backups that are made by themselves (``backup.interval_s``) are doing."""

    last_at: datetime | None
    """When the last backup was made, whoever made it; None if there is none yet."""
    age_s: float | None
    """How long ago that was. It may be long where nothing has changed since."""
    behind: int
    """Changes that no backup has yet."""
    errors: int
    """Failures since the store was opened; each is tried again."""
    last_error: str | None
    """None once it has worked again."""
    proved_at: datetime | None = None
    """When the newest backup was last restored and compared with the store, by itself or with ``backup.verify()``."""
    proof_age_s: float | None = None
    """How long ago that was."""
    proof_error: str | None = None
    """What was wrong with it, or why it cannot be restored now; None if all was well."""


@dataclass(frozen=True)
class Health(Plain):
    """How the store is doing. ``vectors_behind`` counts changes that LanceDB has yet to receive.

    ``sweep_errors`` counts failures of the background sweeps and of recording accesses; both are tried again.
    """

    ok: bool
    """Whether the store is where it was opened, what was last written could be, and the last attempts of the background
    work succeeded."""
    vectors_behind: int
    vector_errors: int
    """Failures to bring LanceDB up to date since the store was opened."""
    vector_rebuilds: int
    """How often it was made anew since then."""
    last_vector_error: str | None
    """None once it has worked again."""
    sweep_errors: int
    last_sweep_error: str | None
    """None once it has worked again."""
    store_error: str | None = None
    """Why nothing can be read or written any more: the store was deleted, moved or replaced. Open it again."""
    backup: BackupHealth | None = None
    """None where no backups are made by themselves. After an error of theirs, or a proof that failed, ``ok`` is
    False."""
    engine_fallbacks: int = 0
    """How often codes answered in the place of a graphics card or a graph that failed: slower, and all the same."""
    last_engine_error: str | None = None
    """Why, the last time."""
    last_write_error: str | None = None
    """Why the last write failed: the disk is full, or does not confirm, or another process holds the store. None once
    something has been written again."""


@dataclass(frozen=True)
class VerifyReport(Plain):
    """What ``verify()`` compared, and every disagreement that it found."""

    ok: bool
    counts: dict[str, int]
    """What was looked at: ``records``, ``embeddings``, ``history``, ``lancedb``; of a backup how many records were
    ``restored`` for that and ``compared`` with the store's own, too."""
    problems: list[str] = field(default_factory=list[str])
    """One line each."""
    notes: list[str] = field(default_factory=list[str])
    """What is in order and worth knowing: names of an old store that look the same, or have blanks around them."""
