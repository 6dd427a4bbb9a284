"""Fine-tuning jobs: service.py launches and finds them, uploading.py brings files up, tailing.py follows."""

from __future__ import annotations

from tunedesk.jobs.service import LAUNCH_KEY, JobService, LaunchRequest, new_launch_id
from tunedesk.jobs.tailing import EventSeen, JobChanged, PointSeen, PollFailed, Update
from tunedesk.jobs.uploading import OnUpload

__all__ = [
    "LAUNCH_KEY",
    "EventSeen",
    "JobChanged",
    "JobService",
    "LaunchRequest",
    "OnUpload",
    "PointSeen",
    "PollFailed",
    "Update",
    "new_launch_id",
]
