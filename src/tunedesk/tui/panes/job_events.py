"""The events of the selected job, as they come."""

from __future__ import annotations

from textual.reactive import reactive

from tunedesk.core.fine_tuning import JobEvent
from tunedesk.tui.panes.job_view import JobView, clock
from tunedesk.tui.widgets.stream_pane import StreamPane

_KINDS = {"error": "bad", "warn": "head", "warning": "head"}


class JobEvents(StreamPane):
    """One line an event: time, level where it is not info, message."""

    BORDER_TITLE = "Events"

    view: reactive[JobView] = reactive(JobView, init=False)
    """The job whose events are shown."""

    def watch_view(self, old: JobView, new: JobView) -> None:
        """Add the events that are new; another job's replace all."""
        told = old.events
        other = (old.profile, old.job and old.job.id) != (new.profile, new.job and new.job.id)
        if other and old.job is not None:
            self.clear()
            told = {}
        for key, event in new.events.items():
            if key not in told:
                self.add(event_line(event), _kind(event))


def event_line(event: JobEvent) -> str:
    """Return an event as one line of words."""
    level = "" if event.level == "info" else f"{event.level.upper()} "
    return f"{clock(event.created_at)}  {level}{event.message}"


def _kind(event: JobEvent) -> str:
    return _KINDS.get(event.level, "quiet" if event.type == "metrics" else "")
