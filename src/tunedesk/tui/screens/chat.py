"""The Chat screen: one prompt to several models side by side, base and tuned by default."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker

from tunedesk.chat import ChatSession, Comparison
from tunedesk.core.conversations import content_text
from tunedesk.providers.replies import Reply
from tunedesk.tui.messages import ChatWanted, WorkbenchLoaded
from tunedesk.tui.panes.transcript import Transcript, system_line
from tunedesk.tui.screens.asking_cost import answer_cost
from tunedesk.tui.screens.chat_dialogs import ModelsDialog, SystemDialog
from tunedesk.tui.screens.saving import SavingScreen
from tunedesk.tui.widgets.prompt_box import PromptBox

if TYPE_CHECKING:
    from tunedesk.core.workspace import Workspace
    from tunedesk.workbench import Workbench

_PIECES = 1 / 30
"""Least seconds between two messages with pieces of answers."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers."""

    profile: str = ""
    models: tuple[str, ...] = ()
    by_hand: bool = False
    """Whether the user chose; else a newly tuned model takes its place at the next visit."""


class ChatScreen(SavingScreen):
    """Transcripts side by side over one prompt."""

    MODE = "chat"
    CSS_PATH = "chat.tcss"
    AUTO_FOCUS = "PromptBox"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="chat.stop",
                tooltip="Stop the running answers and keep their text; else leave the prompt"),
        Binding("ctrl+n", "new_chat", "New chat", id="chat.new", tooltip="Begin a new chat; the old one is kept"),
        Binding("ctrl+t,m", "models", "Models", id="chat.models", tooltip="Choose the models that answer"),
        Binding("ctrl+g,e", "system", "System prompt", id="chat.system", tooltip="Change the system prompt"),
        Binding("i", "write", "Write", id="chat.write", show=False, tooltip="Back to the prompt"),
    ]  # fmt: skip

    choice: reactive[Choice] = reactive(Choice, init=False)
    """The models that answer."""
    system: reactive[str] = reactive("", init=False)
    """The system prompt of this chat."""
    answering: reactive[bool] = reactive(False, init=False, bindings=True)
    """Whether answers are on their way."""

    @dataclass
    class DefaultFound(Message):
        """The newest tuned model and its base were found, or the provider's default model."""

        choice: Choice

    @dataclass
    class ModelsListed(Message):
        """The provider told its models."""

        models: Sequence[tuple[str, str]]

    @dataclass
    class AnswersGrew(Message):
        """Answers got longer."""

        pieces: dict[str, str]
        """New text by model."""

    @dataclass
    class AnswersEnded(Message):
        """All answers ended: whole, stopped, or with an error."""

        replies: dict[str, Reply | None]
        """By model; empty when nobody could be asked."""
        errors: dict[str, str]
        """Why there is no answer, by model."""
        asked: str
        """What the user said."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        super().__init__()
        self._comparison: Comparison | None = None
        self._asking: Worker[None] | None = None
        self._system_by_hand = False

    def compose_body(self) -> Iterable[Widget]:
        """Yield the system prompt, the transcripts and the prompt."""
        yield Static(system_line(""), id="system", markup=False)
        yield Horizontal(id="sides")
        yield PromptBox("write to the models · Enter sends")

    def on_mount(self) -> None:
        """Choose models as soon as the services are there."""
        self.watch(self.app, "workspace", self._workspace_changed)
        if self.desk.workbench is not None:
            self._choose_default(self.desk.workbench)

    @on(WorkbenchLoaded)
    def _loaded(self, event: WorkbenchLoaded) -> None:
        self._choose_default(event.workbench)

    def on_screen_resume(self) -> None:
        """Take up a model that was tuned since the last visit, unless a chat is under way."""
        if self.desk.workbench is not None and not self.choice.by_hand and self._comparison is None:
            self._choose_default(self.desk.workbench)

    def _workspace_changed(self, workspace: Workspace | None) -> None:
        if workspace is not None and not self._system_by_hand and self._comparison is None:
            self.system = dataset_system_prompt(workspace)

    # --- who answers

    def _choose_default(self, workbench: Workbench) -> None:
        self.desk.work(self._find_default(workbench), name="looking for tuned models", group="chat-default")

    async def _find_default(self, workbench: Workbench) -> None:
        profile = self.desk.profile
        for known in await asyncio.to_thread(workbench.store.jobs, profile):
            if known.job.status == "succeeded" and known.job.fine_tuned_model:
                models = (known.job.model, known.job.fine_tuned_model)
                self.post_message(self.DefaultFound(Choice(profile, models)))
                return
        base = workbench.profile(profile).default_model
        self.post_message(self.DefaultFound(Choice(profile, (base,) if base else ())))

    @on(DefaultFound)
    def _default_found(self, event: DefaultFound) -> None:
        if not self.choice.by_hand and self._comparison is None:
            self.choice = event.choice

    @on(ChatWanted)
    def _wanted(self, event: ChatWanted) -> None:
        self.choice = Choice(event.profile, event.models, by_hand=True)
        self.action_write()

    async def watch_choice(self, old: Choice, new: Choice) -> None:
        """Begin a new chat with the chosen models."""
        if (old.profile, old.models) != (new.profile, new.models):
            await self._begin_chat()

    async def _begin_chat(self) -> None:
        self._stop()
        self._comparison = None
        sides = self.query_one("#sides", Horizontal)
        await sides.remove_children()
        await sides.mount_all(Transcript(model, side_name(model)) for model in self.choice.models)
        self.refresh_bindings()

    def _side(self, model: str) -> Transcript | None:
        return next((side for side in self.query(Transcript) if side.model == model), None)

    def watch_system(self, system: str) -> None:
        """Show the system prompt, and let it hold from the next message on."""
        self.query_one("#system", Static).update(system_line(system))
        if self._comparison is not None:
            for session in self._comparison.sessions:
                session.system = system

    # --- asking

    @on(PromptBox.Sent)
    def _sent(self, event: PromptBox.Sent) -> None:
        workbench, reason = self.desk.workbench, self.why_not("send")
        if workbench is None or reason:
            self.say(reason, "warning")
            return
        self.query_one(PromptBox).clear()
        for side in self.query(Transcript):
            side.ask(event.text)
        self.answering = True
        self.say(f"asking {len(self.choice.models)} on {self.choice.profile} · Esc stops")
        self._asking = self.desk.work(
            self._ask(workbench, event.text), name=f"chat with {self.choice.profile}", group="chat"
        )

    async def _ask(self, workbench: Workbench, text: str) -> None:
        """Stream the answers of all sessions, told in pieces; whatever ends it, the end is told."""
        pieces: dict[str, str] = {}
        told = 0.0
        comparison: Comparison | None = None
        try:
            comparison = await self._sessions(workbench)
            async with aclosing(comparison.say(text)) as answers:
                async for model, delta in answers:
                    pieces[model] = pieces.get(model, "") + delta.text
                    if time.monotonic() - told >= _PIECES:
                        told = time.monotonic()
                        self.post_message(self.AnswersGrew(pieces))
                        pieces = {}
        finally:
            self.post_message(self.AnswersGrew(pieces))
            errors = (
                {model: error.message for model, error in comparison.errors.items()} if comparison else {}
            )
            self.post_message(self.AnswersEnded(comparison.replies if comparison else {}, errors, text))

    async def _sessions(self, workbench: Workbench) -> Comparison:
        """Return the sessions of this chat, begun at its first message."""
        if self._comparison is None:
            profile = workbench.profile(self.choice.profile)
            provider = await workbench.connect(profile)
            self._comparison = Comparison(
                [
                    ChatSession(provider, model, system=self.system, store=workbench.store)
                    for model in self.choice.models
                ]
            )
        return self._comparison

    @on(AnswersGrew)
    def _answers_grew(self, event: AnswersGrew) -> None:
        for model, text in event.pieces.items():
            side = self._side(model)
            if side is not None and text:
                side.grow(text)

    @on(AnswersEnded)
    def _answers_ended(self, event: AnswersEnded) -> None:
        self.answering = False
        self._asking = None
        for side in self.query(Transcript):
            reply = event.replies.get(side.model)
            usd = answer_cost(self.desk.workbench, self.choice.profile, reply)
            side.finish(reply, event.errors.get(side.model, ""), usd)
        prompt = self.query_one(PromptBox)
        if not event.replies and not prompt.text:
            prompt.text = event.asked
        if event.errors:
            self.say("; ".join(f"{model}: {text}" for model, text in event.errors.items()), "error")
        elif event.replies:
            stopped = any(reply is not None and "stopped" in reply.error for reply in event.replies.values())
            self.say("stopped; the text so far is kept" if stopped else "answered · kept in the store")

    def answered(self) -> list[ChatSession]:
        """Return the sessions that end with a reply."""
        sessions = self._comparison.sessions if self._comparison is not None else ()
        return [one for one in sessions if one.messages and one.messages[-1]["role"] == "assistant"]

    def _stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    # --- keys

    def why_not(self, action: str) -> str:
        """Return why a key is disabled now."""
        if self.desk.workbench is None and action in ("send", "models"):
            return "the workbench is still loading"
        if action == "save":
            return "answers are still on their way" if self.answering else self.why_not_saved()
        if action == "send":
            if self.answering:
                return "answers are still on their way: Esc stops them"
            if not self.choice.models:
                return "no model is chosen: Ctrl+T chooses"
        return ""

    def action_stop(self) -> None:
        """Stop the running answers; without any, leave the prompt for the transcripts."""
        if self.answering:
            self._stop()
        elif self.query(Transcript):
            self.query(Transcript).first().focus()
            self.say("m models · e system prompt · f follow · i back to the prompt")

    def action_write(self) -> None:
        """Go to the prompt."""
        self.query_one(PromptBox).focus()

    async def action_new_chat(self) -> None:
        """Begin a new chat with the same models."""
        await self._begin_chat()
        self.action_write()
        self.say("a new chat · the old one is kept in the store")

    def action_models(self) -> None:
        """Ask the provider for its models, then the user which of them shall answer."""
        if self.desk.workbench is not None:
            profile = self.desk.profile
            self.say(f"asking {profile} for its models …")
            self.desk.work(
                self._list_models(self.desk.workbench, profile), name=f"models of {profile}", group="models"
            )

    async def _list_models(self, workbench: Workbench, profile: str) -> None:
        chosen = self.choice.models if self.choice.profile == profile else ()
        models = await workbench.askable_models(workbench.profile(profile), chosen)
        self.post_message(self.ModelsListed(models))

    @on(ModelsListed)
    @work
    async def _models_listed(self, event: ModelsListed) -> None:
        profile = self.desk.profile
        self.say(f"{profile} lists {len(event.models)} models")
        models = await self.app.push_screen_wait(ModelsDialog(event.models, self.choice.models))
        if models:
            self.choice = Choice(profile, models, by_hand=True)
            self.action_write()

    @work
    async def action_system(self) -> None:
        """Change the system prompt of this chat."""
        text = await self.app.push_screen_wait(SystemDialog(self.system))
        if text is not None:
            self._system_by_hand = True
            self.system = text


def side_name(model: str) -> str:
    """Return what a model is here: tuned when its name says so, else base."""
    return "tuned" if model.startswith("ft:") else "base"


def dataset_system_prompt(workspace: Workspace) -> str:
    """Return the system prompt that was put on the dataset, else that of its first conversation."""
    if workspace.system_prompt or not workspace.total:
        return workspace.system_prompt
    for message in workspace.row(0).get("messages", ()):
        if isinstance(message, dict) and message.get("role") in ("system", "developer"):
            return content_text(message.get("content"))
    return ""
