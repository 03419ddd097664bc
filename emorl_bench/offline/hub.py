"""A name on the hub as a directory: the snapshot of huggingface_hub, with only those files that are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emorl_bench.core.errors import UserError
from emorl_bench.offline.model_files import whole

WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
CODE = ("*.py",)  # only where remote code is trusted
ELSEWHERE = "*/*"  # other formats lie in folders below
ANSWER_SECONDS = 10


class Unreachable(Exception):
    """The hub does not answer, and there is no complete earlier snapshot."""


@dataclass(frozen=True)
class Wanted:
    """A name on the hub, which a configuration states under ``key``."""

    name: str
    revision: str | None
    code: bool
    key: str


def snapshot(wanted: Wanted) -> Path:
    """The directory of a snapshot, which is named after its commit.

    A pinned snapshot that is complete is taken without asking the hub.

    Raises:
        Unreachable: there is none here, and the hub does not answer.
        UserError: the hub has no such name or revision, or refuses access.
    """
    kept = _kept(wanted, wanted.revision)
    if kept is not None and wanted.revision is not None:
        return kept
    try:
        commit = _commit(wanted)
    except Unreachable:
        if kept is not None:
            return kept
        raise
    return _kept(wanted, commit) or _fetched(wanted, commit)


def _kept(wanted: Wanted, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with _refusals(wanted):
            place = Path(str(snapshot_download(wanted.name, revision=revision, local_files_only=True)))
    except LocalEntryNotFoundError:
        return None
    return place if whole(place) else None


def _commit(wanted: Wanted) -> str | None:
    """The commit that the revision stands for today.

    It is asked for first and once: a download would retry for half a minute.
    """
    from huggingface_hub import HfApi, constants

    try:
        with _refusals(wanted):
            return HfApi().model_info(wanted.name, revision=wanted.revision, timeout=ANSWER_SECONDS).sha
    except UserError:
        raise
    except Exception as error:  # the network and its library may raise anything
        if constants.HF_HUB_OFFLINE:
            raise Unreachable("HF_HUB_OFFLINE is set and it is not in the cache") from error
        raise Unreachable(f"no answer, {type(error).__name__}") from error


def _fetched(wanted: Wanted, commit: str | None) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*WANTED, *CODE] if wanted.code else [*WANTED]
    try:
        with _refusals(wanted):
            return Path(
                str(
                    snapshot_download(
                        wanted.name, revision=commit, allow_patterns=patterns, ignore_patterns=[ELSEWHERE]
                    )
                )
            )
    except UserError:
        raise
    except Exception as error:  # a connection that breaks, a full disk
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{wanted.key}={wanted.name}: the download broke off ({reason}); start again") from error


@contextmanager
def _refusals(wanted: Wanted) -> Iterator[None]:
    """Turn each refusal of the hub into one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    said = f"{wanted.key}={wanted.name}"
    try:
        yield
    except GatedRepoError as error:
        raise UserError(
            f"{said}: its owner asks for consent: accept the licence on its page of the hub, then hf auth login"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(f"{said}: neither a directory here nor a name on the hub") from error
    except RevisionNotFoundError as error:
        raise UserError(f"{said}: the hub has no revision '{wanted.revision}' of it") from error
