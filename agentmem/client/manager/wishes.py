"""What a configuration of a tier may say, as settings; what cannot be had is refused, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from agentmem.types.enums import ValueTierName
from agentmem.types.errors import InvalidInputError

_SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}
_COMPRESSIONS = ("zstd", "lz4", "none", "auto")


def checked(items: Iterable[Mapping[str, Any]], taken: Sequence[str]) -> list[Mapping[str, Any]]:
    """What is to be stored at once: mappings with a key, a value and, of what else may be said, what is."""
    listed = list(items)
    for index, item in enumerate(cast("list[object]", listed)):
        if not isinstance(item, Mapping) or not {"key", "value"} <= cast("Mapping[str, Any]", item).keys():
            raise InvalidInputError(f"items[{index}] must be a mapping with 'key' and 'value'", field="items")
        if more := [name for name in cast("Mapping[str, Any]", item) if name not in ("key", "value", *taken)]:
            raise InvalidInputError(
                f"items[{index}] says {more[0]!r}; besides key and value there are {', '.join(taken)}", field="items"
            )
    return listed


def check_tier(tier: object) -> None:
    """Refuse what names no tier."""
    if tier is not None and tier not in get_args(ValueTierName):
        names = ", ".join(get_args(ValueTierName))
        raise InvalidInputError(f"tier must be one of {names} or None, not {tier!r}", field="tier")


def precision(wanted: str | None) -> str | None:
    """What numbers of hot arrays are to be stored in."""
    if wanted in (None, "float16", "float32", "float64"):
        return wanted
    raise InvalidInputError(
        f"precision={wanted!r}: NumPy has float16, float32 and float64; put a tensor of PyTorch that is bfloat16 as it "
        "is, and it comes back so",
        field="precision",
    )


def compression(wanted: str | None) -> dict[str, Any]:
    """What packs chunks on the disk."""
    if wanted is None:
        return {}
    if wanted not in _COMPRESSIONS:
        raise InvalidInputError(
            f"compression={wanted!r}: chunks are packed by {', '.join(_COMPRESSIONS[:-1])}, or by whichever of them is "
            "worth it (auto)",
            field="compression",
        )
    return {"compression": wanted}


def serialization(wanted: str | None) -> bool:
    """Whether what is no value otherwise is pickled."""
    if wanted in (None, "json", "pickle"):
        return wanted == "pickle"
    raise InvalidInputError(
        f"serialization_format={wanted!r}: values come back as they went in, each kind in a form of its own, see "
        "docs/artifacts.md; say 'pickle' to have what is of no kind pickled, or leave it out",
        field="serialization_format",
    )


def no_shared_memory(wanted: bool) -> None:
    """Refuse memory that processes share."""
    if wanted:
        raise InvalidInputError(
            "shared_memory=True: each process holds the warm values that it reads; what they share is the disk, and "
            "what the system keeps of that in memory",
            field="shared_memory",
        )


def no_file_format(wanted: str | None) -> None:
    """Refuse files of other libraries."""
    if wanted is not None:
        raise InvalidInputError(
            f"file_format={wanted!r}: values of every kind lie in chunks, so that a part of any can be read, and no "
            "version is half written; write such a file from what retrieve() gives where other programs need one",
            field="file_format",
        )


def glacier(provider: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Where archives lie, as ``Settings(glacier=...)`` has it."""
    given = dict(config)
    if provider == "local":
        made: dict[str, Any] = {"url": str(Path(given.pop("storage_path", "glacier_storage")).absolute())}
    elif provider in _SCHEMES:
        bucket = given.pop("bucket", None)
        if not bucket:
            raise InvalidInputError(f"provider={provider!r} needs the name of a bucket: bucket='...'", field="bucket")
        made = {"url": f"{_SCHEMES[provider]}://{bucket}"}
    else:
        raise InvalidInputError(
            f"provider={provider!r}: there are local, {', '.join(_SCHEMES)}; archives lie in a folder or a bucket",
            field="provider",
        )
    made |= {name: given.pop(name) for name in ("region", "keyring") if name in given}
    if prefix := str(given.pop("prefix", "")).strip("/"):
        made["prefix"] = prefix
    encryption = given.pop("encryption", None)
    if encryption is not None and (":" not in str(encryption) or "keyring" not in made):
        raise InvalidInputError(
            f"encryption={encryption!r}: archives are sealed by AES-256 with a key of each user's own; say where the "
            "master key is, encryption='file:/etc/agentmem/master.key', and where the users' keys are to lie, "
            "keyring='/var/lib/agentmem/keys' (docs/glacier.md)",
            field="encryption",
        )
    if given:
        raise InvalidInputError(
            f"{next(iter(given))!r} says nothing about a glacier; there are storage_path, bucket, prefix, region, "
            "encryption, keyring",
            field=next(iter(given)),
        )
    return made | ({} if encryption is None else {"encryption": encryption})
