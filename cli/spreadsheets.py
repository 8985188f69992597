"""Tables in text files as spreadsheets write them, in any language: separators, encodings and quotation marks."""

from __future__ import annotations

import codecs
import csv
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import InvalidInputError

_SEPARATORS: Final = ",;\t"
_SEP_LINE: Final = re.compile(r"sep=(.)\s*", re.IGNORECASE)
"""The first line may name the separator to Excel."""
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ZIP: Final = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row by the names of its columns, or the fault in it; `number` is that of its first line in the file."""

    number: int
    fields: dict[str, Any]
    fault: str | None = None


def lines(data: bytes) -> list[str | None]:
    """Return the lines of a text in UTF-8, UTF-16 with a byte order mark, or else Windows-1252.

    A line that is not in the encoding of the others is None. Raise InvalidInputError for what is no text.
    """
    if data.startswith(_ZIP):
        raise InvalidInputError("file: is a workbook; save it as CSV")
    if data.startswith(_UTF_16):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeDecodeError:
            raise InvalidInputError("file: begins as UTF-16, but is not") from None
    if b"\0" in data:
        raise InvalidInputError("file: must be text in UTF-8, UTF-16 with a byte order mark, or Windows-1252")
    has_mark = data.startswith(codecs.BOM_UTF8)
    found = data.removeprefix(codecs.BOM_UTF8).splitlines()
    as_utf8 = [_decoded(line, "utf-8") for line in found]
    # No text of another encoding with an umlaut in it happens to be UTF-8.
    if has_mark or None not in as_utf8 or any(line and not line.isascii() for line in as_utf8):
        return as_utf8
    return [_decoded(line, "cp1252") for line in found]


def _decoded(line: bytes, encoding: str) -> str | None:
    try:
        return unicodedata.normalize("NFC", line.decode(encoding))
    except UnicodeDecodeError:
        return None


def rows(text: Sequence[str | None], wanted: Sequence[str]) -> Iterator[TableRow]:
    """Yield the rows below the first line that has the names of the columns; empty ones are left out.

    Capitals and blanks in names do not count. Missing fields at the end of a row are empty. A field of a `wanted`
    column is in one line. Raise InvalidInputError if there is none of these columns.
    """
    start = next((number for number, line in enumerate(text) if line is None or line.strip()), len(text))
    given = _SEP_LINE.fullmatch(text[start] or "") if start < len(text) else None
    start += given is not None
    heading = (text[start] or "") if start < len(text) else ""
    separator = given[1] if given else max(_SEPARATORS, key=heading.count)
    names = [" ".join(name.lower().split()) for name in _fields(heading, separator) or ()]
    if not set(names) & set(wanted):
        raise InvalidInputError(f"file: its first line must name the columns: {', '.join(wanted)}")
    twice = next((name for name in wanted if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInputError(f"file: its first line has the column {twice} twice")
    start += 1
    while start < len(text):
        row, end = _row(text, start, names, separator)
        if any(name in wanted and "\n" in value for name, value in row.fields.items()):
            row, end = TableRow(row.number, {}, "has a quotation mark too many or too few"), start + 1
        if row.fault is not None or any(row.fields.values()):
            yield row
        start = end


def _row(text: Sequence[str | None], start: int, names: Sequence[str], separator: str) -> tuple[TableRow, int]:
    """Return the row that begins at this index, and the index behind it."""
    number, end, joined = start + 1, start + 1, text[start]
    while joined is not None and joined.count('"') % 2 and end < len(text):
        following = text[end]
        joined = None if following is None else f"{joined}\n{following}"
        end += 1
    if text[start] is None:
        return TableRow(number, {}, "is not in the encoding of the other lines"), start + 1
    fields = None if joined is None else _fields(joined, separator)
    if fields is None:
        return TableRow(number, {}, "has a quotation mark too many or too few"), start + 1
    if any(fields[len(names) :]):
        return TableRow(number, {}, f"has {len(fields)} fields, but the first line {len(names)}"), end
    return TableRow(number, dict(zip(names, fields, strict=False))), end


def _fields(line: str, separator: str) -> list[str] | None:
    try:
        (found,) = csv.reader([line], delimiter=separator, strict=True)
    except (csv.Error, ValueError):
        return None
    return [field.strip() for field in found]
