"""Workbooks of Excel (.xlsx, .xlsb) and OpenDocument (.ods) as tables: the first sheet that holds anything.

Read by calamine (Rust, 1 MB, no dependencies): formulas give the value they had when the file was saved.
"""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Iterator

from python_calamine import CalamineError, load_workbook

from tunedesk.errors import DataError

_PARTS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")
"""Files one of which every workbook is a zip of."""
_MOST_UNPACKED = 1 << 30
"""Bytes a workbook may unpack to."""


def is_workbook(data: bytes) -> bool:
    """Return whether a zip file is a workbook."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        sheets = b"spreadsheet" if "content.xml" in archive.namelist() else b""
        return any(part in archive.namelist() for part in _PARTS) and sheets in _type_of(archive)
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _type_of(archive: zipfile.ZipFile) -> bytes:
    """Return what an OpenDocument file says it is."""
    return archive.read("mimetype") if "mimetype" in archive.namelist() else b""


def read_sheet(data: bytes, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each row of the first sheet with a row; raises DataError when it cannot be read."""
    try:
        unpacked = sum(one.file_size for one in zipfile.ZipFile(io.BytesIO(data)).infolist())
        if unpacked > _MOST_UNPACKED:
            raise DataError(f"{name} unpacks to {unpacked:,} bytes", "Save its conversations as CSV.")
        book = load_workbook(io.BytesIO(data))
        for place in range(len(book.sheet_names)):
            rows = book.get_sheet_by_index(place).to_python(skip_empty_area=False)
            if rows:
                yield from ((number, [_text(cell) for cell in row]) for number, row in enumerate(rows, 1))
                return
    except (CalamineError, zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"{name} is a workbook that cannot be read: {error}", "Save its conversations as CSV."
        ) from error


def _text(cell: object) -> str:
    if isinstance(cell, datetime.datetime):
        return cell.isoformat(" ", "seconds")
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).replace("\r\n", "\n")
