"""Milliseconds and bytes a key in a terminal of 120 by 40, beside VisiData and harlequin on the same rows.

All three show the same table: line, turns, characters, intent and first words of each conversation. Ours is the whole
app on the imported file, with the conversation and the estimate beside the list; VisiData reads the table as TSV, and
harlequin selects it from a DuckDB file (of which it shows 100,000 rows at most). Filtering is on all text in ours,
on the first words alone in the others. A tool that is not installed is named and left out; where they live can be
told by BENCH_TOOLS, a folder with `vd` and `harlequin`.
"""

from __future__ import annotations

import csv
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tests.bench.program import QUIET_S, Burst, Program, median
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.workspace import Workspace

SIZES = (10_000, 100_000, 1_000_000)
WORD = b"cancel"
_DOWN, _PAGE_DOWN = b"\x1b[B", b"\x1b[6~"
_START_S, _COUNTING_S = 60.0, 120.0
_SCAN_S = 0.6
"""Silence after a key of a filter: the echo comes first, the rows after the scan."""
_FILTER, _LIST = range(2, 3), range(5, 24)
"""Lines of our screen at this size (from 1): the filter with its count, and rows of the list."""
_COLUMNS = ("line", "turns", "chars", "intent", "preview")


@dataclass(slots=True)
class Figures:
    """What one program took on one file."""

    start_s: float | None = None
    """From its start to the first rows."""
    again_s: float | None = None
    """The same when it is started once more on the same rows, from what it noted of them."""
    keys: dict[str, Burst | None] = field(default_factory=dict)
    worst_ms: dict[str, float] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    """What a key of a filter takes, part by part."""
    megabytes: int = 0
    note: str = ""


def report(file: Path, folder: Path) -> Iterator[str]:
    """Yield a table for each size that the file has rows for: ours, then others with how many times as much."""
    rows = _count(file)
    for size in [one for one in SIZES if one < rows] + [min(rows, SIZES[-1])]:
        part = folder / f"rows{size}.jsonl"
        with file.open("rb") as source, part.open("wb") as target:
            target.writelines(islice(source, size))
        home = folder / f"home{size}"
        yield f"{size:,} conversations"
        name = f"rows{size}"
        imported = subprocess.run(
            [sys.executable, "-m", "tunedesk", "import", str(part), "--name", name],
            env={**os.environ, "TUNEDESK_HOME": str(home)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        part.unlink()
        if imported.returncode:
            yield f"  the import failed: {imported.stderr.strip()}"
            continue
        table = _table(
            next((home / "data" / "datasets").glob("*/manifest.json")).parent, folder / f"{name}.tsv"
        )
        ours = measure_desk(home, name)
        yield from _lines("tunedesk", ours, ours)
        for tool, measure in (("vd", _measure_visidata), ("harlequin", _measure_harlequin)):
            yield from _lines(tool, measure(table), ours)
        shutil.rmtree(home)
        table.unlink()


def _count(file: Path) -> int:
    with file.open("rb") as source:
        return sum(block.count(b"\n") for block in iter(lambda: source.read(1 << 22), b""))


def _table(dataset: Path, path: Path) -> Path:
    """Write what our list shows as TSV for the others."""
    workspace = Workspace.open(Dataset.open(dataset))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, escapechar="\\")
        writer.writerow(_COLUMNS)
        for start in range(0, workspace.total, 4096):
            for row in workspace.meta_rows(slice(start, start + 4096)):
                preview = row.preview.replace("\t", " ").replace("\\", "/")
                writer.writerow((row.line, row.turns, row.chars, row.intent, preview))
    return path


# --- programs


def measure_desk(home: Path, name: str) -> Figures:
    """Measure the app on an imported dataset."""
    command = [sys.executable, "-m", "tunedesk", name]
    with Program(command, {"TUNEDESK_HOME": str(home)}) as app:
        figures = Figures(app.wait_for("to train on", _START_S))
        app.settle(_COUNTING_S, quiet=3.0)  # tokens are counted in the background once
        _repeat(figures, app, "down", _DOWN, 20)
        _repeat(figures, app, "page down", _PAGE_DOWN, 20)
        app.key(b"/")
        for name_of, keys in (("filter key", [WORD[i : i + 1] for i in range(len(WORD))]),
                              ("filter key back", [b"\x7f"] * len(WORD))):  # fmt: skip
            bursts = _each(figures, app, name_of, keys, quiet=_SCAN_S)
            figures.parts[name_of] = _parts(bursts)
        app.key(b"\x1b")
        app.settle(5)
        figures.megabytes = app.megabytes()
        app.send(b"q")
        app.settle(3)
    with Program(command, {"TUNEDESK_HOME": str(home)}) as app:
        figures.again_s = app.wait_for("shown as it was", _START_S)
        app.settle(_COUNTING_S, quiet=3.0)
        for name_of, downs in (("turns", 1), ("preview", 6)):
            app.key(b"s")
            app.send(_DOWN * downs)
            app.settle(2, quiet=0.5)
            burst = app.key(b"\r", patience=10, quiet=1.5)
            figures.keys[f"sort by {name_of}"] = burst
            figures.parts[f"sort by {name_of}"] = _parts([burst] if burst else [])
    return figures


def _measure_visidata(table: Path) -> Figures:
    tool = _tool("vd")
    if tool is None:
        return Figures(note="not installed (pip install visidata, BENCH_TOOLS)")
    folder = table.parent / "vd"
    with Program([tool, str(table)], {"HOME": str(folder), "VD_DIR": str(folder)}) as app:
        figures = Figures(app.wait_for("preview", _START_S))
        app.settle(_START_S, quiet=2.0)
        _repeat(figures, app, "down", _DOWN, 20)
        _repeat(figures, app, "page down", _PAGE_DOWN, 20)
        app.send(b"gl")  # the last column: the first words
        app.settle(2, quiet=0.5)
        app.key(b"|")
        _each(figures, app, "filter key", [WORD[i : i + 1] for i in range(len(WORD))])
        figures.keys["filter, Enter"] = app.key(b"\r", patience=20)
        figures.megabytes = app.megabytes()
    return figures


def _measure_harlequin(table: Path) -> Figures:
    tool = _tool("harlequin")
    if tool is None:
        return Figures(note="not installed (pip install harlequin, BENCH_TOOLS)")
    folder = table.parent / "harlequin"
    folder.mkdir(exist_ok=True)
    sql = f"create table r as select * from read_csv('{table}', delim='\\t', quote='', escape='', ignore_errors=true)"
    base = folder / "rows.db"
    base.unlink(missing_ok=True)
    python = Path(tool).with_name("python")
    made = subprocess.run(
        [str(python), "-c", f"import duckdb; duckdb.connect({str(base)!r}).execute({sql!r})"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        return Figures(note=f"its table could not be made: {made.stderr.strip()[-200:]}")
    with Program([tool, str(base)], {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}) as app:
        app.wait_for("Quit", _START_S)
        app.settle(15, quiet=2.0)
        app.send(b"select * from r")
        app.settle(2, quiet=0.5)
        run = app.key(b"\n", patience=20)
        figures = Figures(note="start is not told: it shows rows only after a query")
        figures.keys["query, Enter"] = run
        app.settle(10, quiet=1.5)
        app.send(b"\x1b[15~")  # F5: the results
        app.settle(2, quiet=0.5)
        _repeat(figures, app, "down", _DOWN, 20)
        _repeat(figures, app, "page down", _PAGE_DOWN, 20)
        figures.megabytes = app.megabytes()
    return figures


def _tool(name: str) -> str | None:
    folder = os.environ.get("BENCH_TOOLS")
    here = Path(folder or Path(sys.executable).parent) / name
    return str(here) if here.exists() else None if folder else shutil.which(name)


def _repeat(figures: Figures, app: Program, name: str, keys: bytes, times: int) -> None:
    _each(figures, app, name, [keys] * times)


def _parts(bursts: list[Burst]) -> str:
    """Tell when a key was echoed, when the first rows it leads to were on the screen, and when the count was final."""
    told = []
    for name, times in (
        ("echo", [burst.first_ms for burst in bursts]),
        ("first rows", [at for burst in bursts if (at := burst.written(_LIST)) is not None]),
        ("final count", [at for burst in bursts if (at := burst.written(_FILTER, last=True)) is not None]),
    ):
        if times:
            told.append(f"{name} {statistics.median(times):.0f} (worst {max(times):.0f})")
    return ", ".join(told) + " ms"


def _each(
    figures: Figures, app: Program, name: str, keys: list[bytes], quiet: float = QUIET_S
) -> list[Burst]:
    bursts = [burst for one in keys if (burst := app.key(one, quiet=quiet)) is not None]
    figures.keys[name] = median(bursts) if bursts else None
    figures.worst_ms[name] = max((burst.most_ms for burst in bursts), default=0.0)
    return bursts


# --- the table


def _lines(tool: str, found: Figures, ours: Figures) -> Iterator[str]:
    if found.note and not found.keys:
        yield f"  {tool:<10} {found.note}"
        return
    start = "" if found.start_s is None else f"first rows {found.start_s:6.2f} s"
    if found is not ours and found.start_s and ours.start_s:
        start += f" (x{found.start_s / ours.start_s:.1f})"
    start += f", again {found.again_s:.2f} s" if found.again_s else ""
    yield f"  {tool:<10} {start}  {found.megabytes:,} MB  {found.note}".rstrip()
    for name, burst in found.keys.items():
        if burst is None:
            yield f"    {name:<16} nothing was painted"
            continue
        own = ours.keys.get(name)
        ratio = ""
        if found is not ours and own is not None:
            ratio = f"x{burst.most_ms / max(own.most_ms, 0.01):.1f} time, x{burst.size / max(own.size, 1):.1f} bytes"
        worst = found.worst_ms.get(name)
        yield (
            f"    {name:<16} first {burst.first_ms:6.1f}  whole {burst.most_ms:8.1f} ms"
            f"{'' if worst is None else f' (worst {worst:,.0f})':<14} {burst.size:7,} bytes  {ratio}"
        ).rstrip()
        if name in found.parts:
            yield f"    {'':<16} {found.parts[name]}"
