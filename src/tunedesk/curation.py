"""Curating conversations as a whole: personal data, duplicates, coverage. Blocking calls, safe in any thread."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import msgspec

from tunedesk.core.checking.findings import Finding
from tunedesk.core.checking.fixes import fix
from tunedesk.core.checking.processes import find_in_lines
from tunedesk.core.conversations import Row, encode_row
from tunedesk.core.diff import MessageChange, message_changes
from tunedesk.core.editing import edits, prompts
from tunedesk.core.editing.applying import apply
from tunedesk.core.editing.overlay import EDITED
from tunedesk.core.grouping.coverage import Coverage, cover
from tunedesk.core.known_rows import index_of
from tunedesk.core.personal_data import privacy
from tunedesk.core.row_sets import holds
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError, StoreError
from tunedesk.paths import Paths, private_folder, replacing, write_whole

OnProgress = Callable[[int, int], None]
"""Called with rows done and rows in all; what it raises stops the work."""
_PLAIN = re.compile("[A-Za-z0-9 ]+")
_MEASURED = 1_000
"""Rows on which a change of tokens is measured."""
_LOOKED_AT_ONCE = 20_000
"""Rows that are read to say something about prompts while the user waits: about a second."""
_NOTHING = "this would change none of these conversations"
_STEP = 200
"""Rows between two calls of a progress function."""


@dataclass(frozen=True, slots=True)
class Personal:
    """One stretch of personal data in a file."""

    line: int
    message: int
    kind: str
    """One of privacy.KINDS."""
    start: int
    end: int
    text: str
    """The characters found: shown to the user who has them, never written to where they could be uploaded."""


@dataclass(frozen=True, slots=True)
class Masked:
    """What masking a file did."""

    found: list[Personal]
    conversations: int
    map: Path
    """Placeholder → value by line, on this machine alone."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """What an edit would do to one row."""

    line: int
    before: Row
    after: Row
    messages: tuple[MessageChange, ...]
    preview: str = ""
    """Its first words."""


@dataclass(frozen=True, slots=True)
class EditPreview:
    """What an edit would do, shown before it is made."""

    edit: edits.Edit
    rows: int
    """Rows it is about."""
    excluded: int
    """Rows it leaves out."""
    samples: tuple[RowChange, ...]
    """The first rows that it changes."""


def preview(
    workspace: Workspace, edit: edits.Edit, first: int | None = None, on_progress: OnProgress | None = None,
    *, most: int = 5,
) -> EditPreview:  # fmt: skip
    """Return what `edit` would do: its first `most` changed rows, row `first` (if it is touched) before others.

    Raises DataError when it would do nothing at all.
    """
    touched = edit.indexes()
    kept_as_is = edit.kind in edits.MARKS
    order: Iterable[int] = workspace.everything if touched is None else touched
    if first is not None and (touched is None or holds(touched, first)):
        order = chain((first,), (index for index in order if index != first))
    samples: list[RowChange] = []
    rows = workspace.total if touched is None else len(touched)
    for place, index in enumerate(order):
        if on_progress and place % _STEP == 0:
            on_progress(place, rows)
        row = workspace.row(index)
        after = _after(edit, index, row, touched)
        if kept_as_is or after != row:
            changes = message_changes(row, after)
            words = workspace.view(index).preview
            samples.append(RowChange(workspace.line(index), row, after, changes, words))
        if len(samples) == most:
            break
    excluded = len(edit.arguments.get("excluded", ()))
    if not samples and not excluded:
        raise DataError(_NOTHING, "nothing was changed")
    return EditPreview(edit, rows, excluded, tuple(samples))


def _after(edit: edits.Edit, index: int, row: Row, touched: Sequence[int] | None) -> Row:
    """Return the row after the edit, the same where the edit passes over it."""
    place = bisect_left(touched, index) if touched is not None else index
    try:
        return apply(edits.of_row(edit, place), row)
    except DataError:
        return row


def changing(workspace: Workspace, edit: edits.Edit, on_progress: OnProgress | None = None) -> edits.Edit:
    """Return `edit` over those of its rows alone that it changes, which takes some 15 seconds a million.

    Raises DataError when it changes none, and says why where it is about one.
    """
    touched = edit.indexes()
    if touched is not None and len(touched) == 1:
        apply(edits.of_row(edit, 0), workspace.row(touched[0]))
    alike = touched and edits.of_row(edit, 0) is edit
    if edit.kind in edits.MARKS or touched is None or not alike:
        return edit
    wanted = _that_may_change(workspace, edit, touched, on_progress)
    hit = array("I")
    for place, index in enumerate(wanted):
        if on_progress and place % _STEP == 0:
            on_progress(place, len(wanted))
        row = workspace.row(index)
        if _after(edit, index, row, touched) != row:
            hit.append(index)
    if not hit:
        raise DataError(_NOTHING, "nothing was changed")
    return msgspec.structs.replace(edit, rows=edits.pack(hit)) if len(hit) < len(touched) else edit


def _that_may_change(
    workspace: Workspace, edit: edits.Edit, touched: array[int], on_progress: OnProgress | None
) -> array[int]:
    """Return the rows of an edit without those that surely stay: a word's replacement where their bytes have no such.

    Only plain words are looked for so, and in lines without escaped characters: JSON could write them otherwise.
    """
    told = edit.arguments
    if edit.kind != "replace_text" or told["pattern"] or not _PLAIN.fullmatch(told["find"]):
        return touched
    find, flags = told["find"].encode(), workspace.overlay.flags
    found = array("I")
    for place, index in enumerate(touched):
        if on_progress and place % (50 * _STEP) == 0:
            on_progress(place, len(touched))
        if not flags[index] & EDITED:
            line = workspace.dataset.raw(index)
            if find not in line and b"\\u" not in line:
                continue
        found.append(index)
    return found


def token_change(workspace: Workspace, edit: edits.Edit, count: Callable[[Row], int]) -> str:
    """Return in words how many tokens `edit` adds or saves in all; measured on 1,000 rows where it is about more."""
    touched = edit.indexes()
    rows = workspace.everything if touched is None else touched
    step = max(1, -(-len(rows) // _MEASURED))
    looked = [workspace.row(index) for index in rows[::step]]
    change = sum(count(apply(edit, row)) - count(row) for row in looked)
    total = round(change * len(rows) / max(1, len(looked)))
    about = "about " if step > 1 else ""
    return f"{about}{total:+,} tokens an epoch, {total / max(1, len(rows)):+.1f} a conversation"


def fixing(workspace: Workspace, findings: Iterable[Finding]) -> edits.Edit:
    """Return the one edit that applies the safe fixes of `findings`: rows mended, further copies left out.

    Raises DataError when none of them can be fixed any more.
    """
    mend: dict[int, set[str]] = {}
    for one in findings:
        index = index_of(workspace, one.line) if one.fix else -1
        if index >= 0 and workspace.line(index) == one.line and workspace.overlay.included(index):
            mend.setdefault(index, set()).add(one.code)
    copies = [index for index, codes in mend.items() if "exact_duplicate" in codes]
    codes = {code for found in mend.values() for code in found} - {"exact_duplicate"}
    rows = [index for index, found in mend.items() if found & codes and fix(workspace.row(index), codes)[1]]
    if rows:
        return edits.fix(rows, sorted(codes), excluded=copies)
    if copies:
        return edits.exclude(copies)
    raise DataError("none of these findings can be fixed any more", "c checks again")


@dataclass(frozen=True, slots=True)
class Twins:
    """Conversations that say the same, or nearly."""

    rows: tuple[int, ...]
    similarity: float


RULES = ("longest", "newest", "first", "best rated")
"""Ways to choose the one of a group that is kept."""
_DATES = ("created_at", "date", "timestamp", "time", "updated_at", "created")
_RATINGS = ("rating", "score", "csat", "stars", "quality")


def kept(workspace: Workspace, twins: Twins, rule: str) -> int:
    """Return the row of a group that a rule of RULES keeps; where the rows do not tell, the later or first one."""

    def measure(index: int) -> tuple[float, str, int]:
        row = workspace.row(index)
        given = row.get("metadata")
        metadata = given if isinstance(given, dict) else {}
        if rule == "longest":
            return len(encode_row({"messages": row.get("messages")})), "", -index
        if rule == "newest":
            return 0, next((str(metadata[key]) for key in _DATES if key in metadata), ""), index
        if rule == "best rated":
            value = next((metadata[key] for key in _RATINGS if key in metadata), 0)
            return float(value) if isinstance(value, int | float) else 0, "", -index
        return 0, "", -index

    return max(twins.rows, key=measure)


class Curation:
    """What needs a look at all conversations, over any source that `open_source` opens."""

    def __init__(self, paths: Paths, open_source: Callable[..., Workspace]) -> None:
        """Keep maps of placeholders under `paths.data`."""
        self._paths, self._open_source = paths, open_source

    preview = staticmethod(preview)
    changing = staticmethod(changing)
    fixing = staticmethod(fixing)
    token_change = staticmethod(token_change)
    kept = staticmethod(kept)

    # --- personal data

    def personal(self, source: str, on_progress: OnProgress | None = None) -> list[Personal]:
        """Return all personal data of a file or dataset, by line; raises DataError."""
        workspace = self._open_source(source)
        return [
            one
            for index, row in _told(workspace, on_progress)
            for one in _personal(workspace.line(index), row)
        ]

    def mask_file(self, source: str, output: Path, on_progress: OnProgress | None = None) -> Masked:
        """Write the included rows of `source` with placeholders for personal data; raises DataError, StoreError.

        The map from placeholder to value stays under this machine's own folder, never beside the output.
        """
        workspace = self._open_source(source)
        found: list[Personal] = []
        maps: dict[int, dict[str, str]] = {}
        count = 0
        with replacing(output) as file:
            for index, row in _told(workspace, on_progress):
                line = workspace.line(index)
                here = _personal(line, row)
                found += here
                masked, known = privacy.mask_row(row) if here else (row, {})
                if known:
                    maps[line] = known
                file.write(encode_row(_without_personal_metadata(masked, known)) + b"\n")
                count += 1
        return Masked(found, count, self._keep(workspace, maps))

    def rows_with_personal_data(
        self, workspace: Workspace, on_progress: OnProgress | None = None
    ) -> array[int]:
        """Return the included rows that hold personal data, sorted."""
        found = array("I")
        for index, row in _told(workspace, on_progress):
            if privacy.row_has_personal_data(row):
                found.append(index)
        return found

    def masking(
        self, workspace: Workspace, indexes: Iterable[int], on_progress: OnProgress | None = None
    ) -> edits.Edit:
        """Return the edit that masks those of `indexes` that hold personal data; raises DataError when none does."""
        wanted = edits.in_order(indexes)
        hit = []
        for place, index in enumerate(wanted):
            if on_progress and place % _STEP == 0:
                on_progress(place, len(wanted))
            if privacy.row_has_personal_data(workspace.row(index)):
                hit.append(index)
        if not hit:
            raise DataError("no personal data was found in these conversations", "nothing has to be masked")
        return edits.mask(hit)

    def mask(
        self, workspace: Workspace, edit: edits.Edit, on_progress: OnProgress | None = None
    ) -> Workspace:
        """Make the edit that `masking` prepared; its map is kept on this machine before anything changes."""
        rows = list(edit.indexes() or ())
        maps: dict[int, dict[str, str]] = {}
        for place, index in enumerate(rows):
            if on_progress and place % _STEP == 0:
                on_progress(place, len(rows))
            maps[workspace.line(index)] = privacy.mask_row(workspace.row(index))[1]
        self._keep(workspace, maps)
        return workspace.apply(edit)

    def map_of(self, workspace: Workspace) -> dict[int, dict[str, str]]:
        """Return placeholder → value by line, as far as this dataset was masked on this machine."""
        path = self._map_path(workspace)
        if not path.exists():
            return {}
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[int, dict[str, str]])
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(f"{path} cannot be read: {error}", "move it away to begin a new one") from error

    # --- system prompts

    def prompt_notes(self, workspace: Workspace, edit: edits.Edit, count: Callable[[Row], int]) -> list[str]:
        """Return what a system prompt costs, and which of its variables how many rows have no value for."""
        named = edit.indexes()
        touched = workspace.everything if named is None else named
        rows, step = _sampled(workspace, named)
        gaps = prompts.missing(rows, str(edit.arguments["prompt"]))
        about = "about " if step > 1 else ""
        told = [
            f"{{{{{key}}}}} is missing in {about}{lacking * step:,} of {len(touched):,}"
            for key, lacking in gaps.items()
        ]
        return [token_change(workspace, edit, count), *told]

    def prompts_in_use(self, workspace: Workspace) -> list[tuple[str, int]]:
        """Return the system prompts with how many conversations (about, of many) have each, most frequent first."""
        rows, step = _sampled(workspace, None)
        return [(text, times * step) for text, times in prompts.in_use(rows)]

    # --- duplicates and coverage

    def twins(self, workspace: Workspace, on_progress: OnProgress | None = None) -> list[Twins]:
        """Return the groups of exact and near duplicates among the included rows."""

        def lines() -> Iterator[tuple[int, bytes]]:
            for place, line in enumerate(workspace.included_lines()):
                if on_progress and place % _STEP == 0:
                    on_progress(line[0], workspace.total)
                yield line

        return [Twins(tuple(group.members), group.similarity) for group in find_in_lines(lines())]

    def coverage(self, source: str | Workspace, on_progress: OnProgress | None = None) -> Coverage:
        """Return which intents the included rows cover, which are thin, and how many answers refuse or hand off."""
        workspace = self._open_source(source) if isinstance(source, str) else source
        rows = array("I")

        def told() -> Iterator[Row]:
            for index, row in _told(workspace, on_progress):
                rows.append(index)
                yield row

        found = cover(told())
        topics = {name: array("I", (rows[at] for at in places)) for name, places in found.topics.items()}
        return replace(found, topics=topics)

    def _map_path(self, workspace: Workspace) -> Path:
        return self._paths.data / "privacy" / f"{workspace.dataset.id}.json"

    def _keep(self, workspace: Workspace, maps: Mapping[int, Mapping[str, str]]) -> Path:
        """Add to the map of a dataset, readable by this user alone; a later value of a placeholder wins."""
        path = self._map_path(workspace)
        private_folder(path.parent)
        known = self.map_of(workspace)
        for line, one in maps.items():
            known[line] = {**known.get(line, {}), **one}
        write_whole(path, msgspec.json.encode(known).decode())
        return path


def _sampled(workspace: Workspace, touched: Sequence[int] | None) -> tuple[Iterator[Row], int]:
    """Return rows spread over those touched (all, for None), at most _LOOKED_AT_ONCE, and one in how many they are."""
    rows = workspace.everything if touched is None else touched
    step = max(1, -(-len(rows) // _LOOKED_AT_ONCE))
    return (workspace.row(rows[place]) for place in range(0, len(rows), step)), step


def _told(workspace: Workspace, on_progress: OnProgress | None) -> Iterator[tuple[int, Row]]:
    """Yield the included rows, telling how far it is."""
    for place, (index, row) in enumerate(workspace.included()):
        if on_progress and place % _STEP == 0:
            on_progress(index, workspace.total)
        yield index, row


def _personal(line: int, row: Row) -> list[Personal]:
    return [
        Personal(line, one.message, one.kind, one.start, one.end, one.text)
        for one in privacy.find_in_row(row)
    ]


def _without_personal_metadata(row: Row, known: Mapping[str, str]) -> Row:
    """Return `row` without the metadata that holds personal data, or what a placeholder stands for in it."""
    metadata = row.get("metadata")
    if not isinstance(metadata, dict):
        return row
    values = [value.casefold() for value in known.values()]
    kept = {
        key: value
        for key, value in metadata.items()
        if not privacy.has_personal_data(f"{key}: {value}")
        and not any(one in str(value).casefold() or str(value).casefold() in one.split() for one in values)
    }
    return {**row, "metadata": kept}
