"""Where a corpus is: a file in the user's data directory, or a data set of the hub where its name is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError
from emorl_bench.data.reading import Numbered, plain, records

SCRIPTS_END = 4  # the release of `datasets` from which data sets bring no code


@dataclass(frozen=True)
class Source:
    """A corpus. ``file`` is in ``data_dir``, under its full name or its last part; ``hub`` names a data set instead.

    ``config`` and ``split`` are the hub's names for a part of a data set.
    """

    data_dir: str | None
    file: str
    hub: str | None = None
    revision: str | None = None
    config: str | None = None
    split: str = "train"


def find(source: Source, what: str) -> Path:
    """The file of a source. ``what`` says which corpus it is and where to get it.

    Raises:
        UserError: no data directory is given, or the file is not in it.
    """
    if source.data_dir is None:
        raise UserError(f"task.data_dir is not set; give the directory that holds {source.file}: {what}")
    directory = Path(source.data_dir).expanduser()
    if not directory.is_dir():
        raise UserError(
            f"task.data_dir={source.data_dir}: there is no such directory; put {source.file} into one: {what}"
        )
    names = dict.fromkeys((source.file, Path(source.file).name))
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise UserError(f"task.data_dir={source.data_dir}: has no {' and no '.join(names)} in it; {what}")


def read(source: Source, columns: Sequence[str], what: str, optional: Sequence[str] = ()) -> Numbered:
    """Numbered rows of a source, by column name, as text. ``what``: see `find`.

    Raises:
        UserError: the corpus is not there, or a row is broken; one line that begins with ``task.data_dir``.
    """
    if source.hub is not None:
        return _from_hub(source, columns, optional)
    return records(find(source, what), columns, optional)


def _from_hub(source: Source, columns: Sequence[str], optional: Sequence[str]) -> Numbered:
    try:
        from datasets import __version__, load_dataset
    except ImportError as error:
        raise UserError(
            f"task.hub={source.hub}: data sets of the hub need the package datasets; pip install datasets, "
            "or give files with task.data_dir"
        ) from error
    old = int(__version__.partition(".")[0]) < SCRIPTS_END  # these run a data set's script, and ask on the terminal
    options: dict[str, Any] = {"trust_remote_code": False} if old else {}
    try:
        found = load_dataset(source.hub, source.config, split=source.split, revision=source.revision, **options)
    except Exception as error:  # a hub, a network or the builder of a data set may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"task.hub={source.hub}: cannot be fetched ({reason}); fetch it elsewhere, then task.hub=null "
            f"and task.data_dir=DIRECTORY with {source.file}"
        ) from error
    for number, row in enumerate(found, start=1):
        yield number, plain(row, columns, optional, f"task.hub={source.hub}: row {number}")
