"""Excel workbooks (.xlsx) as tables: the first sheet that holds anything, by the standard library alone.

Formulas give the value they had when the file was saved, dates the day and time they show.
"""

from __future__ import annotations

import datetime
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from tunedesk.errors import DataError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/spreadsheetml/main}"
_LINK = re.compile(r"\{.*relationships\}id")
_MOST_PART = 1 << 29
"""Bytes one part of a workbook may unpack to."""
_MOST_COLUMNS = 1_000
_FIRST_DAY = datetime.datetime(1899, 12, 30)
"""Day 0, in no time zone, as a workbook knows none."""
_DATE_FORMATS = frozenset((*range(14, 23), *range(27, 37), 45, 46, 47, *range(50, 59)))
"""Numbers of the built-in formats that show dates and times."""
_DATE_CODE = re.compile(r"(?:^|[^\\\"])[dmyhs]", re.I)
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
"""How a character that XML cannot hold is written: _x000D_ is a carriage return."""
_FAULTS = (
    ElementTree.ParseError, zipfile.BadZipFile, LookupError, ValueError, EOFError, OSError, RuntimeError,
    NotImplementedError, zlib.error, OverflowError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Book:
    """A workbook that is open, with what its cells refer to."""

    archive: zipfile.ZipFile
    texts: list[str]
    dates: frozenset[int]
    """Numbers of the cell styles that show a date."""


def is_workbook(data: bytes) -> bool:
    """Return whether a zip file is an Excel workbook."""
    try:
        return "xl/workbook.xml" in zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def read_sheet(data: bytes, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each row of the first sheet with a row; raises DataError when it cannot be read."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        book = _Book(archive, _texts(archive), _dates(archive))
        for part in _sheets(archive):
            empty = True
            for row in _rows(book, part):
                empty = False
                yield row
            if not empty:
                return
    except _FAULTS as error:
        raise DataError(
            f"{name} is an Excel workbook that cannot be read: {error}", "Save its conversations as CSV."
        ) from error


def _elements(archive: zipfile.ZipFile, part: str, *tags: str) -> Iterator[ElementTree.Element]:
    """Yield the elements of these names in a part of the workbook, each whole; its own memory is given back after."""
    if archive.getinfo(part).file_size > _MOST_PART:
        raise ValueError(f"{part} is too large")
    with archive.open(part) as file:
        if b"<!DOCTYPE" in file.read(1 << 12):
            raise ValueError(f"{part} declares entities")
    with archive.open(part) as file:
        for _, element in ElementTree.iterparse(file):
            if _plain(element.tag) in tags:
                yield element
                element.clear()


def _plain(tag: str) -> str:
    return tag.removeprefix(_MAIN).removeprefix(_STRICT)


def _texts(archive: zipfile.ZipFile) -> list[str]:
    """Return the texts that cells refer to by number, without their phonetic readings."""
    part = "xl/sharedStrings.xml"
    return [_text(one) for one in _elements(archive, part, "si")] if part in archive.namelist() else []


def _text(element: ElementTree.Element) -> str:
    found = []
    for child in element:
        if _plain(child.tag) == "t":
            found.append(child.text or "")
        elif _plain(child.tag) == "r":
            found += [one.text or "" for one in child if _plain(one.tag) == "t"]
    return _ESCAPED.sub(lambda code: chr(int(code[1], 16)), "".join(found)).replace("\r\n", "\n")


def _dates(archive: zipfile.ZipFile) -> frozenset[int]:
    part = "xl/styles.xml"
    if part not in archive.namelist():
        return frozenset()
    shown: set[int] = set(_DATE_FORMATS)
    dates: set[int] = set()
    for element in _elements(archive, part, "numFmt", "cellXfs"):
        if _plain(element.tag) == "numFmt":
            code = re.sub(r"\[[^\]]*\]|\"[^\"]*\"", "", element.get("formatCode", ""))
            if _DATE_CODE.search(code):
                shown.add(int(element.get("numFmtId", "-1")))
        else:
            dates = {at for at, one in enumerate(element) if int(one.get("numFmtId", "0")) in shown}
    return frozenset(dates)


def _sheets(archive: zipfile.ZipFile) -> list[str]:
    """Return the parts that hold the sheets, in their order in the workbook."""
    parts = {
        one.get("Id", ""): one.get("Target", "")
        for _, one in ElementTree.iterparse(io.BytesIO(archive.read("xl/_rels/workbook.xml.rels")))
    }
    found = []
    for sheet in _elements(archive, "xl/workbook.xml", "sheet"):
        link = next((value for key, value in sheet.items() if _LINK.fullmatch(key)), "")
        target = parts.get(link, "")
        part = target.removeprefix("/") if target.startswith("/") else f"xl/{target}"
        if part in archive.namelist():
            found.append(part)
    return found


def _rows(book: _Book, part: str) -> Iterator[tuple[int, list[str]]]:
    number = 0
    for row in _elements(book.archive, part, "row"):
        number = int(row.get("r", number + 1))
        cells: list[str] = []
        for cell in row:
            at = _column(cell.get("r", "")) if cell.get("r") else len(cells)
            if at >= _MOST_COLUMNS:
                break
            cells += [""] * (at + 1 - len(cells))
            cells[at] = _value(book, cell)
        yield number, cells


def _column(reference: str) -> int:
    """Return the place of a column by its letters: A is 0, AA is 26."""
    place = 0
    for letter in reference.rstrip("0123456789"):
        place = place * 26 + ord(letter) - ord("A") + 1
    return place - 1


def _value(book: _Book, cell: ElementTree.Element) -> str:
    kind, value, inline = cell.get("t", "n"), "", ""
    for child in cell:
        if _plain(child.tag) == "v":
            value = child.text or ""
        elif _plain(child.tag) == "is":
            inline = _text(child)
    if kind == "s":
        return book.texts[int(value)] if value else ""
    if kind == "inlineStr":
        return inline
    if kind == "b":
        return "true" if value == "1" else "false"
    if kind == "n" and value and int(cell.get("s", "0")) in book.dates:
        return (_FIRST_DAY + datetime.timedelta(days=float(value))).isoformat(" ", "seconds")
    return value.removesuffix(".0") if kind == "n" else value
