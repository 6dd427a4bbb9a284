"""What was shown when the app ended, so that the next start, after a lost terminal too, shows it again."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass

from tunedesk.errors import StoreError
from tunedesk.paths import Paths, write_whole

_NAMES = ("dataset", "query", "profile", "model", "mode")


@dataclass(frozen=True, slots=True)
class LastView:
    """The dataset, the filter, who trains what, and the screen."""

    dataset: str
    """Id of the dataset."""
    query: str = ""
    profile: str = ""
    model: str = ""
    mode: str = "data"


def read_last_view(paths: Paths) -> LastView | None:
    """Return what was shown last; None at the first start, or when the note is not one of ours."""
    try:
        values = json.loads((paths.data / "view.json").read_text(encoding="utf-8"))
        view = LastView(**{name: str(values[name]) for name in _NAMES})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return view


def keep_last_view(paths: Paths, view: LastView) -> None:
    """Note what is shown; a full disk costs no more than the note."""
    with contextlib.suppress(StoreError):
        write_whole(paths.data / "view.json", json.dumps(asdict(view)))
