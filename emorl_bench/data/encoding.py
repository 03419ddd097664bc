"""The text of a file, whatever encoding it has.

UTF-8, UTF-16 and UTF-32 are recognised by their mark or by their bytes. Other bytes are read as Windows-1252, which the
log says: all bytes of a file without any UTF-8 in it, and the stray ones of a file that is UTF-8 elsewhere.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from pathlib import Path

from emorl_bench.core.errors import UserError
from emorl_bench.data.notices import at, warn_once
from emorl_bench.data.sizes import content

BOMS = (  # utf-32's begins with utf-16's, so it goes first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SNIFFED = 4096  # bytes that are looked at for UTF-16 without a mark
STRAY = re.compile("[\udc80-\udcff]")  # how `surrogateescape` writes a byte that is not UTF-8
BEYOND_ASCII = re.compile("[^\x00-\x7f\udc80-\udcff]")


def text_of(path: Path) -> str:
    """The whole file, decoded; unpacked first if its name ends with ``.gz``.

    Raises:
        UserError: the file cannot be read or unpacked, is larger than a corpus may be (`data.sizes`), or is no text.
    """
    try:
        data = content(path, at(path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{at(path)}: is not a whole gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"{at(path)}: cannot be read ({error.strerror}); check path and permissions") from error
    text = _decoded(path, data)
    if "\0" in text:
        raise UserError(f"{at(path)}: line {_line(text, text.index(chr(0)))} holds a NUL character; save it as UTF-8")
    return text


def _decoded(path: Path, data: bytes) -> str:
    encoding = next((name for mark, name in BOMS if data.startswith(mark)), None) or _unmarked(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if not encoding.startswith("utf-8"):
            raise UserError(f"{at(path)}: is not {encoding} text ({error.reason}); save it as UTF-8") from error
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
        known, strays = len(BEYOND_ASCII.findall(text)), len(STRAY.findall(text))
        marked = encoding == "utf-8-sig"
        if (marked or known) and error.end == len(data) and error.reason == "unexpected end of data":
            raise UserError(
                f"{at(path)}: ends in the middle of a character; it was cut short, fetch it again"
            ) from error
        if marked or known >= strays:
            return _without_strays(path, text, strays)
    return _one_byte_each(path, data)


def _without_strays(path: Path, text: str, strays: int) -> str:
    """UTF-8 text in which each byte that is not UTF-8 is read as Windows-1252."""
    first = STRAY.search(text)
    assert first is not None
    warn_once(
        path,
        f"{path}: {strays} bytes are not UTF-8, the first of them in line {_line(text, first.start())}; "
        "each is read as Windows-1252, all else as UTF-8",
    )
    return STRAY.sub(lambda found: _character(ord(found[0]) - 0xDC00), text)


def _character(byte: int) -> str:
    """The character that this byte is in Windows-1252; in Latin-1, where Windows-1252 has none."""
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


def _one_byte_each(path: Path, data: bytes) -> str:
    """Text in Windows-1252; in Latin-1, which takes every byte, where Windows-1252 does not."""
    try:
        text, name = data.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        text, name = data.decode("latin-1"), "latin-1"
    warn_once(path, f"{path}: is not UTF-8; read as {name}")
    return text


def _unmarked(data: bytes) -> str:
    """The encoding of text without a byte-order mark. In UTF-16, ASCII letters have a zero in every second byte."""
    even, odd = data[0:SNIFFED:2], data[1:SNIFFED:2]
    zeros = even.count(0), odd.count(0)
    if max(zeros) > len(odd) // 2 and min(zeros) == 0:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8"


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
