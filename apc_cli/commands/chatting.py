"""The terminal side of `apc chat`: reading lines, slash commands, printing the streamed answer."""

import shlex
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from apc_cli import conversations
from apc_cli.errors import ApcError, DataError
from apc_cli.models.playing.role_player import Sampling
from apc_cli.reports.console import table
from apc_cli.reports.terminal import safe
from apc_cli.steps.chat import Conversation
from apc_cli.workshop import Workshop, require

if TYPE_CHECKING:
    from apc_cli.models.judging.scorer import Scorer

HELP = """/why    the statements behind the last answer, and its APC score
/reset  start over
/help   this list
/quit   leave (or Ctrl-D)"""


def talk(shop: Workshop, console: Console, profile: str, *, base: bool) -> None:
    """Runs the conversation until end of input."""
    name = shop.character.character
    command = f"apc train --character {shlex.quote(name)} --profile {profile}"
    require(shop.workspace.path("statements.jsonl"), "the list of persona statements", command)
    served = shop.character.policy.backend == "openai"
    if not base and not served:
        require(shop.workspace.path("adapter"), "the adapter", f"{command} (or use --base)")
    shop.workspace.create()
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    policy, player = shop.character.policy, shop.player(None if base or served else "adapter")
    conversation = Conversation(
        name,
        shop.statements(),
        player,
        partial(conversations.shown_statements, shop),
        partial(conversations.conversation, shop),
        _evaluator(shop, console),
        Sampling.of(policy, shop.character.seed),
        shop.workspace.path(f"chats/{time.strftime('%Y%m%d-%H%M%S')}.jsonl"),
        player.room_for_prompts(policy),
    )
    console.print(Text(safe(f"You are talking to {name}. /help lists commands, Ctrl-D ends.")))
    while (line := _read_line()) is not None:
        if line == "/quit":
            return
        if not _command(line, conversation, console):
            _answer(line, name, conversation, console)


def _evaluator(shop: Workshop, console: Console) -> "Scorer | None":
    """The pair behind /why; the chat goes on without one that cannot be loaded."""
    try:
        return shop.evaluator
    except ApcError as error:
        console.print(Text(safe(f"/why shows no score: {error}")))
        return None


def _read_line() -> str | None:
    """The next line that is not blank; None at the end of input."""
    while True:
        if sys.stdin.isatty() and sys.stdout.isatty():
            line = _edited_line()
        else:
            line = sys.stdin.readline()
        if not line:
            return None
        if line.strip():
            return line.strip()


def _edited_line() -> str:
    """A line typed on a terminal, with the arrow keys where Python has readline."""
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - input() uses it once it is loaded
    try:
        return input("you> ") + "\n"
    except EOFError:
        print(file=sys.stderr)  # noqa: T201
        return ""


def _command(line: str, conversation: Conversation, console: Console) -> bool:
    """Carries out a slash command; False when the line is none of them."""
    if line == "/help":
        console.print(HELP)
    elif line == "/reset":
        conversation.reset()
        console.print("starting over")
    elif line == "/why":
        _why(conversation, console)
    elif line.startswith("/"):
        console.print(Text(safe(f"{line} is no command; /help lists them")))
    else:
        return False
    return True


def _why(conversation: Conversation, console: Console) -> None:
    try:
        found = conversation.why()
    except ApcError as error:  # an LLM that measures may be out of reach
        console.print(Text(safe(f"/why shows nothing now: {error}")))
        return
    if found is None:
        console.print("nothing was said yet")
        return
    shown, score = found
    console.print(Text(safe("shown to the model:\n" + "\n".join(f"  {s}" for s in shown))))
    if score is None:
        return
    rows = [
        [c.statement, f"{c.relevance:.2f}", f"{c.contradicted:.2f}", f"{c.entailed:.2f}",
         c.violation or ""]
        for c in sorted(score.constraints, key=lambda c: -c.relevance)
    ]  # fmt: skip
    low, high = score.interval
    title = f"APC {score.apc:.2f} of {len(rows)} (95% {low} … {high}), ΔAPC {score.delta:+.2f}"
    console.print(
        table(title, ["statement", "relevance", "contradicted", "entailed", "violation"], rows)
    )


def _answer(query: str, name: str, conversation: Conversation, console: Console) -> None:
    sys.stdout.write(safe(f"{name}: "))
    try:
        for piece in conversation.answer(query):
            sys.stdout.write(safe(piece))
            sys.stdout.flush()
    except DataError as error:
        console.print(Text(safe(f"{error}; {error.hint}")))
    sys.stdout.write("\n")
    sys.stdout.flush()
