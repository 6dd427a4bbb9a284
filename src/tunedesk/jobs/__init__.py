"""Fine-tuning jobs: asking.py says what is asked for, launching.py makes one job of it,
service.py lists and acts on jobs, uploading.py brings files up, tailing.py follows,
recipes.py keeps how models were made, importing.py fetches what an account holds, queue.py runs several
in order, lineup.py keeps the queue of the app, notices.py tells that one has ended.
"""

from __future__ import annotations

from tunedesk.jobs.asking import LaunchRequest, new_launch_id, unsettled
from tunedesk.jobs.finding import LAUNCH_KEY
from tunedesk.jobs.importing import ImportReport, import_jobs
from tunedesk.jobs.lineup import Lineup, best_place
from tunedesk.jobs.notices import Notice
from tunedesk.jobs.queue import QueueItem, QueueRow, StopRules, run_queue
from tunedesk.jobs.recipes import RecipeBook
from tunedesk.jobs.service import JobService
from tunedesk.jobs.tailing import CheckpointSeen, EventSeen, JobChanged, PointSeen, PollFailed, Update
from tunedesk.jobs.uploading import OnUpload

__all__ = [
    "LAUNCH_KEY",
    "CheckpointSeen",
    "EventSeen",
    "ImportReport",
    "JobChanged",
    "JobService",
    "LaunchRequest",
    "Lineup",
    "Notice",
    "OnUpload",
    "PointSeen",
    "PollFailed",
    "QueueItem",
    "QueueRow",
    "RecipeBook",
    "StopRules",
    "Update",
    "best_place",
    "import_jobs",
    "new_launch_id",
    "run_queue",
    "unsettled",
]
