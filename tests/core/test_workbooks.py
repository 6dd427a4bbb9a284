"""Excel workbooks are read as the tables they hold."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tunedesk.core.importing import importers
from tunedesk.errors import DataError

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
LINKS = f'xmlns:r="{OFFICE}"'
PACKAGE = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
TEXTS = ["question", "answer", "Where is_x000D_\nit?"]
STYLES = f'<styleSheet {MAIN}><cellXfs><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs></styleSheet>'
PAIRS = """<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1" t="s"><v>1</v></c></row>
<row r="3"><c r="A3" t="s"><v>2</v></c><c r="C3" t="inlineStr"><is><r><t>The</t></r><r><t>re.</t></r></is></c></row>
<row r="4"><c r="A4" t="str"><f>1</f><v>Why?</v></c></row>"""
TURNS = """<row><c t="inlineStr"><is><t>ticket id</t></is></c><c t="inlineStr"><is><t>created</t></is></c>
<c t="inlineStr"><is><t>author</t></is></c><c t="inlineStr"><is><t>comment</t></is></c></row>
<row><c><v>7</v></c><c s="1"><v>45292.5</v></c><c t="str"><v>agent</v></c><c t="str"><v>There.</v></c></row>
<row><c><v>7</v></c><c s="1"><v>45292.25</v></c><c t="str"><v>customer</v></c><c t="str"><v>Where?</v></c></row>"""


def book(path: Path, *sheets: str) -> Path:
    """Write a workbook with these rows in its sheets."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        start = f'<Relationship Id="r" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
        file.writestr("_rels/.rels", f"<Relationships {PACKAGE}>{start}</Relationships>")
        listed = "".join(f'<sheet name="s{n}" sheetId="{n}" r:id="r{n}"/>' for n in range(len(sheets)))
        file.writestr("xl/workbook.xml", f"<workbook {MAIN} {LINKS}><sheets>{listed}</sheets></workbook>")
        links = "".join(
            f'<Relationship Id="r{n}" Type="{OFFICE}/worksheet" Target="worksheets/{n}.xml"/>'
            for n in range(len(sheets))
        )
        links += f'<Relationship Id="t" Type="{OFFICE}/sharedStrings" Target="sharedStrings.xml"/>'
        links += f'<Relationship Id="s" Type="{OFFICE}/styles" Target="styles.xml"/>'
        file.writestr("xl/_rels/workbook.xml.rels", f"<Relationships {PACKAGE}>{links}</Relationships>")
        texts = "".join(f"<si><t>{text}</t><rPh><t>no</t></rPh></si>" for text in TEXTS)
        file.writestr("xl/sharedStrings.xml", f"<sst {MAIN}>{texts}</sst>")
        file.writestr("xl/styles.xml", STYLES)
        for n, rows in enumerate(sheets):
            file.writestr(
                f"xl/worksheets/{n}.xml", f"<worksheet {MAIN}><sheetData>{rows}</sheetData></worksheet>"
            )
    return path


def test_the_first_sheet_with_rows_is_read_with_its_row_numbers(tmp_path: Path) -> None:
    found = importers.read(book(tmp_path / "a.xlsx", "", PAIRS))
    (row,) = found
    assert (row.line, [m["content"] for m in row.row["messages"]]) == (3, ["Where is\nit?", "There."])
    assert [(one.line, one.reason) for one in found.report.skipped] == [(4, "the answer is empty")]
    assert found.report.rows == 2


def test_dates_order_the_messages_of_a_ticket(tmp_path: Path) -> None:
    (row,) = importers.read(book(tmp_path / "a.xlsx", TURNS))
    assert [m["content"] for m in row.row["messages"]] == ["Where?", "There."]


def test_what_is_no_sound_workbook_is_told_in_words(tmp_path: Path) -> None:
    path = book(tmp_path / "b.xlsx", '<row><c t="s"><v>99</v></c></row>')
    with pytest.raises(DataError, match="cannot be read"):
        list(importers.read(path))
    path = book(tmp_path / "c.xlsx", "<row><c>")
    with pytest.raises(DataError, match="cannot be read"):
        list(importers.read(path))
