"""The Data screen's work on one file: import, open, filter, sort, page, memory; each beside other tools, one run.

Every figure is seconds of wall time. A tool reads the file as it is, in a process of its own whose start is counted
where a user would start it for each question (jq, rg); Polars and DuckDB are timed after their import. Hits are
compared: a tool that finds another number of conversations is marked, since its question was another one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.importing import storing
from tunedesk.core.searching.query import parse
from tunedesk.core.searching.search import search
from tunedesk.core.workspace import Workspace

PAGE = 40
WORDS = (  # noqa: SIM905 - a list of words, not of quotes
    "card account refund order please thanks help number transfer delivery parcel escalate invoice password login"
    " payment late where when today tomorrow customer agent check sorry moment café straße кошелёк 退款"
).split()
PATIENCE_S = 120
"""Seconds after which a tool is given up."""


@dataclass(frozen=True, slots=True)
class Question:
    """One filter in our words and in those of others."""

    name: str
    query: str
    jq: str
    rg: tuple[str, ...]
    """Arguments, empty where it cannot ask this."""
    polars: str
    """An expression over the column `messages` (and others)."""
    sql: str


def _any(test: str) -> str:
    return f'pl.col("messages").list.eval({test}).list.any()'


_TEXT = 'pl.element().struct.field("content").str.to_lowercase()'
QUESTIONS = (
    Question(
        "literal", "refund", 'any(.messages[]; .content // "" | test("refund"; "i"))',
        ("-i", "-F", "refund"), _any(f'{_TEXT}.str.contains("refund", literal=True)'),
        "len(list_filter(messages, lambda m: contains(lower(m.content), 'refund'))) > 0",
    ),
    Question(
        "phrase", '"where order"', 'any(.messages[]; .content // "" | test("where order"; "i"))',
        ("-i", "-F", "where order"), _any(f'{_TEXT}.str.contains("where order", literal=True)'),
        "len(list_filter(messages, lambda m: contains(lower(m.content), 'where order'))) > 0",
    ),
    Question(
        "regex", r"/refund.{0,20}card/",
        'any(.messages[]; .content // "" | test("refund.{0,20}card"; "i"))',
        ("-i", "refund.{0,20}card"), _any(f'{_TEXT}.str.contains("refund.{{0,20}}card")'),
        "len(list_filter(messages, lambda m: regexp_matches(lower(m.content), 'refund.{0,20}card'))) > 0",
    ),
    Question(
        "regex digits", r"/\d{6}/", 'any(.messages[]; .content // "" | test("[0-9]{6}"))',
        ("[0-9]{6}",), _any(f'{_TEXT}.str.contains("[0-9]{{6}}")'),
        "len(list_filter(messages, lambda m: regexp_matches(m.content, '[0-9]{6}'))) > 0",
    ),
    Question(
        "role-scoped", "assistant:refund",
        'any(.messages[]; .role == "assistant" and (.content // "" | test("refund"; "i")))',
        (), _any(f'(pl.element().struct.field("role") == "assistant") & {_TEXT}.str.contains("refund", literal=True)'),
        "len(list_filter(messages, lambda m: m.role = 'assistant' and contains(lower(m.content), 'refund'))) > 0",
    ),
    Question(
        "numeric", "turns>=6", "(.messages | length) >= 6", (), 'pl.col("messages").list.len() >= 6',
        "len(messages) >= 6",
    ),
    Question(
        "several words", "refund card -sorry",
        '[.messages[].content // ""] | join("\\n")'
        ' | test("refund"; "i") and test("card"; "i") and (test("sorry"; "i") | not)',
        (),
        " & ".join(
            f'{no}{_any(_TEXT + chr(46) + contains)}'
            for no, contains in (
                ("", 'str.contains("refund", literal=True)'),
                ("", 'str.contains("card", literal=True)'),
                ("~", 'str.contains("sorry", literal=True)'),
            )
        ),
        " and ".join(
            f"{no} len(list_filter(messages, lambda m: contains(lower(m.content), '{word}'))) > 0"
            for no, word in (("", "refund"), ("", "card"), ("not", "sorry"))
        ),
    ),
)  # fmt: skip

_TIMED = "t = time.perf_counter(); {}; print(time.perf_counter() - t, n)"
_POLARS = "import sys, time, polars as pl; f = sys.argv[1]; " + _TIMED
_DUCKDB = (
    "import sys, time, duckdb; f = sys.argv[1]; c = duckdb.connect({!r});"
    " c.execute('set enable_progress_bar=false'); " + _TIMED
)
_READ_JSON = "read_json('{}', format='newline_delimited')"


@dataclass(frozen=True, slots=True)
class Run:
    """What one tool took."""

    seconds: float
    hits: int | None = None
    megabytes: int = 0
    """Largest resident size of one process, 0 where it was not measured."""


def made_up(path: Path, rows: int) -> Path:
    """Write conversations of about a kilobyte, the same ones every time."""
    chance = random.Random(7)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            messages = [{"role": "system", "content": f"You help customers of bank {number % 50}."}]
            for turn in range(2 * chance.randint(1, 5)):
                said = " ".join(chance.choices(WORDS, k=chance.randint(8, 30))).capitalize()
                if not turn:
                    said += f" order {chance.randrange(10**10):010}"
                messages.append({"role": "assistant" if turn % 2 else "user", "content": said})
            extra = {"intent": f"intent_{number % 77}", "id": number, "rating": chance.randint(1, 5)}
            file.write(json.dumps({"messages": messages, "metadata": extra}, ensure_ascii=False) + "\n")
    return path


def report(file: Path, folder: Path) -> Iterator[str]:
    """Yield the lines of the table: ours, then each other tool with how many times as long it took."""
    missing = [name for name, there in _tools().items() if not there]
    yield f"{file.name}: {file.stat().st_size / 1e6:,.0f} MB; missing: {', '.join(missing) or 'none'}"
    _read_through(file)
    ours, dataset = _imported(file, folder)
    yield from _compared("import", ours, _importers(file, folder))
    opened = _best(lambda: _opened(dataset.folder), 3)
    yield from _compared("open, first page", opened, [])
    workspace = Workspace.open(dataset)
    dataset.warm()
    for question in QUESTIONS:
        first, whole = _asked(workspace, question.query)
        yield from _compared(f"{question.name}, first page", first, [])
        yield from _compared(f"{question.name}, count", whole, _askers(file, question))
    yield from _compared(
        "sort by chars", _best(lambda: len(workspace.with_sort("chars", True).matches), 3), _sorters(file)
    )
    middle = len(dataset) // 2
    yield from _compared(
        "page", _best(lambda: len(workspace.meta_rows(slice(middle, middle + PAGE))), 20), []
    )
    private = _private()
    yield (
        f"private memory after all this: {private} MB"
        if private
        else "private memory: not told by this system"
    )


def _tools() -> dict[str, bool]:
    return {
        "jq": bool(shutil.which("jq")),
        "rg": bool(shutil.which("rg")),
        "duckdb": importlib.util.find_spec("duckdb") is not None,
        "polars": True,
    }


def _compared(name: str, ours: Run, others: list[tuple[str, Run | None]]) -> Iterator[str]:
    hits = "" if ours.hits is None else f"{ours.hits:>10,}"
    size = f"  {ours.megabytes:,} MB" if ours.megabytes else ""
    yield f"{name:<26} tunedesk         {ours.seconds:10.4f} s  {'':>8} {hits}{size}"
    for tool, run in others:
        if run is None:
            yield f"{'':<26} {tool:<16} failed, or took over {PATIENCE_S} s"
            continue
        ratio = f"x{run.seconds / max(ours.seconds, 1e-9):,.1f}"
        size = f"  {run.megabytes:,} MB" if run.megabytes else ""
        same = "" if run.hits is None or run.hits == ours.hits else f"  (found {run.hits:,})"
        yield f"{'':<26} {tool:<16} {run.seconds:10.4f} s  {ratio:>8}{size}{same}"


def _read_through(file: Path) -> None:
    """Have the system hold the file in memory, so that the tool that comes first does not pay for the disk."""
    with file.open("rb", buffering=0) as source:
        while source.read(1 << 24):
            pass


def _imported(file: Path, folder: Path) -> tuple[Run, Dataset]:
    started = time.perf_counter()
    dataset, _ = storing.import_file(file, folder / "datasets", name="bench")
    seconds = time.perf_counter() - started
    size = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    return Run(seconds, len(dataset), size), dataset


def _opened(folder: Path) -> int:
    workspace = Workspace.open(Dataset.open(folder))
    workspace.meta_rows(slice(0, PAGE))
    return workspace.total


def _best(work: Callable[[], int], times: int) -> Run:
    taken, hits = [], 0
    for _ in range(times):
        started = time.perf_counter()
        hits = work()
        taken.append(time.perf_counter() - started)
    return Run(min(taken), hits)


def _asked(workspace: Workspace, text: str) -> tuple[Run, Run]:
    """Return the best of three for the first page of matches and for all of them."""
    first: list[float] = []
    whole: list[float] = []
    hits = 0
    for _ in range(3):
        started = time.perf_counter()
        query = parse(text)
        for at, progress in enumerate(search(workspace.target, query)):
            if not at:
                progress.matches[:PAGE]
                first.append(time.perf_counter() - started)
            hits = len(progress.matches)
        whole.append(time.perf_counter() - started)
    return Run(min(first)), Run(min(whole), hits)


def _importers(file: Path, folder: Path) -> list[tuple[str, Run | None]]:
    found = [("pl.read_ndjson", _python(_POLARS.format("n = pl.read_ndjson(f).height"), file))]
    if _tools()["duckdb"]:
        table = f'n = c.execute("create table t as select * from {_READ_JSON.format(file)}").fetchone()[0]'
        found.append(("duckdb table", _python(_DUCKDB.format(str(folder / "bench.duckdb"), table), file)))
    return found


def _askers(file: Path, question: Question) -> list[tuple[str, Run | None]]:
    scan = (
        f"n = pl.scan_ndjson(f).filter({question.polars}).select(pl.len()).collect(engine='streaming').item()"
    )
    memory = f"d = pl.read_ndjson(f); t = time.perf_counter(); n = d.filter({question.polars}).height"
    found: list[tuple[str, Run | None]] = [
        ("pl.scan_ndjson", _python(_POLARS.format(scan), file)),
        ("polars in memory", _python(_POLARS.format(memory), file)),
    ]
    if _tools()["duckdb"]:
        sql = f"n = c.execute({f'select count(*) from {_READ_JSON.format(file)} where {question.sql}'!r}).fetchone()[0]"
        found.append(("duckdb", _python(_DUCKDB.format(":memory:", sql), file)))
    if _tools()["jq"]:
        found.append(("jq", _command(["jq", "-c", f"select({question.jq}) | 1", str(file)], lines=True)))
    if _tools()["rg"] and question.rg:
        found.append(("rg", _command(["rg", "-c", *question.rg, str(file)])))
    return found


def _sorters(file: Path) -> list[tuple[str, Run | None]]:
    length = 'pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()'
    order = f"n = d.select(pl.len(), k={length}).sort('k', descending=True).height"
    code = f"d = pl.read_ndjson(f); t = time.perf_counter(); {order}"
    return [("polars in memory", _python(_POLARS.format(code), file))]


def _python(code: str, file: Path) -> Run | None:
    """Run Python code that prints seconds and hits; None when it fails or takes too long."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    stopping = threading.Timer(PATIENCE_S, process.kill)
    stopping.start()
    out = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    stopping.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout:
        process.stdout.close()
    if process.returncode:
        return None
    seconds, hits = out.split()
    return Run(float(seconds), int(hits), usage.ru_maxrss >> 10)


def _command(command: list[str], *, lines: bool = False) -> Run | None:
    """Run a program that prints a count, or a line for each hit; None when it fails or takes too long."""
    started = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return None
    seconds = time.perf_counter() - started
    if done.returncode > 1:
        return None
    return Run(seconds, done.stdout.count(b"\n") if lines else int(done.stdout or b"0"))


def _private() -> int:
    """Return this process's memory in MB that the system cannot drop (no file behind it), 0 where /proc is missing."""
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        return 0
    lines = [line.split() for line in rollup.read_text().splitlines()]
    return sum(int(parts[1]) for parts in lines if parts[0] == "Anonymous:") >> 10
