"""What commands print: data on standard output, everything else on standard error, nothing that acts on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import click

from tunedesk.terminal import json_text, visible

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document (streams: one object a line)."
)
"""The option that every command has."""


def emit(value: object) -> None:
    """Print one JSON document and flush it, so that a reader of a stream sees it at once."""
    click.echo(json_text(value))


def emit_list(head: Mapping[str, object], name: str, values: Iterable[object]) -> None:
    """Print one JSON document that ends in a list under `name`, its values made as they are printed."""
    click.echo(f"{json_text(head)[:-1]}, {json_text(name)}: [", nl=False)
    rest, between = iter(values), ""
    while part := list(islice(rest, 1_000)):
        click.echo(between + ", ".join(map(json_text, part)), nl=False)
        between = ", "
    click.echo("]}")


def show(text: str) -> None:
    """Print a line of data, made safe."""
    click.echo(visible(text))


def say(text: str) -> None:
    """Print a line for the person on standard error, made safe."""
    click.echo(visible(text), err=True)


def table(rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Print rows as aligned columns, the first as the heading; columns named in `right` end flush."""
    lines = [[visible(str("" if cell is None else cell), keep="") for cell in row] for row in rows]
    if not lines:
        return
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


class Progress:
    """One line on standard error that is written over, shown only on a terminal and only after a second."""

    def __init__(self, label: str, told: Callable[[float], str] = "{:,.0f}".format) -> None:
        """Begin to measure; `label` says what is going on, `told` a number of units."""
        self._label, self._told = label, told
        self._started = self._shown = time.monotonic()
        self._width = 0
        self._live = sys.stderr.isatty()

    def update(self, done: int, total: int | None = None, unit: str = "") -> None:
        """Show how far it is: `done` of `total` units, with speed and time left where they can be told."""
        now = time.monotonic()
        if not self._live or now - self._started < 1 or now - self._shown < 0.1:
            return
        if not done and not total:
            self.line(f"{self._label}: waiting for the first of it, Ctrl+C stops")
            return
        speed = done / (now - self._started)
        told = self._told
        text = (
            f"{self._label} {told(done)}{f' of {told(total)}' if total else ''}{unit}  {told(speed)}{unit}/s"
        )
        if total and speed:
            text += f"  {duration((total - done) / speed)} left"
        self.line(text)

    def line(self, text: str) -> None:
        """Write `text` over the line (on a terminal only)."""
        if not self._live:
            return
        self._shown = time.monotonic()
        text = visible(text, keep="")[:200]
        click.echo("\r" + text.ljust(self._width), err=True, nl=False)
        self._width = len(text)

    def close(self) -> None:
        """Take the line away."""
        if self._width:
            click.echo("\r" + " " * self._width + "\r", err=True, nl=False)
            self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def duration(seconds: float) -> str:
    """Return a time span as people say it: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Return bytes in words: 532 B, 4.1 MB, 1.9 GB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def dollars(usd: float | None) -> str:
    """Return an amount of money, `unknown` when it is not known; fractions of a cent are kept visible."""
    if usd is None:
        return "unknown"
    return f"${usd:,.2f}" if usd >= 0.01 or usd == 0 else f"${usd:.4f}"


def run_async(work: Callable[[], Any]) -> Any:
    """Run the coroutine that `work` makes to its end on a fresh event loop."""
    import asyncio

    return asyncio.run(work())
