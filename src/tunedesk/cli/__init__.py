"""The command line, and the one place where services are built and handed to the app or a command.

Command modules import click alone at their top; everything else is imported when a command runs, so that `--help`
answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import click

from tunedesk import __version__
from tunedesk.cli import (
    comparing,
    curation,
    data,
    editing,
    endpoints,
    engine,
    files,
    jobs,
    journey,
    launch,
    library,
    money,
    upkeep,
)
from tunedesk.cli.output import say
from tunedesk.errors import DataError, StoreError, TunedeskError, UsageError


class Commands(click.Group):
    """A group in which anything that is no command is a file to open in the workbench."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with, `open` when they begin with a file or a dataset's name."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["open", *args]
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="tunedesk")
@click.pass_context
def tunedesk(context: click.Context) -> int:
    """Fine-tune chat models on conversations, from raw tickets to a compared model, in a terminal.

    Without a command the workbench opens: on FILE… where given, the first time on the sample conversations.
    """
    if context.invoked_subcommand is None:
        return int(context.invoke(engine.open_workbench, files=()))
    return 0


for module in (
    data,
    library,
    editing,
    curation,
    money,
    launch,
    jobs,
    files,
    endpoints,
    comparing,
    journey,
    engine,
    upkeep,
):
    for command in module.COMMANDS:
        tunedesk.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done, 1 the data or the job is bad, 2 usage or unreadable input, 130 interrupted.
    """
    try:
        return int(tunedesk.main(args=None if argv is None else list(argv), standalone_mode=False) or 0)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        say("interrupted; what was done is kept")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nothing more to say
        return 0
    except TunedeskError as error:
        say(f"error: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        return 2 if isinstance(error, UsageError | DataError) else 1
    except Exception as error:  # noqa: BLE001 - the last door: every other module lets the unforeseen through to here
        return _unforeseen(error)


def _unforeseen(error: Exception) -> int:
    from tunedesk.paths import state_paths, write_whole

    say(f"error: {type(error).__name__}: {error}")
    text = "".join(traceback.format_exception(error))
    try:
        report = state_paths().logs / "crash.txt"
        write_whole(report, text)
    except StoreError:
        say(f"hint: this is a fault of tunedesk; please report it with this:\n{text}")
        return 1
    say(
        f"hint: this is a fault of tunedesk; please report it with {report} (it holds no conversation and no key)"
    )
    return 1
