"""A conversation with the character: retrieval, a streamed answer, and what lies behind it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from apc_cli.errors import DataError
from apc_cli.histories import fitting, query_in_context
from apc_cli.models.playing.role_player import RolePlayer, Sampling, clean
from apc_cli.records import Message, Score

if TYPE_CHECKING:
    from apc_cli.models.judging.scorer import Scorer


class Conversation:
    """Keeps the turns, and writes each to the transcript as soon as it is complete."""

    def __init__(
        self,
        character: str,
        statements: Sequence[str],
        player: RolePlayer,
        retrieve: Callable[[str, Sequence[Message]], list[str]],
        compose: Callable[[str, Sequence[Message]], list[Message]],
        evaluator: "Scorer | None",
        sampling: Sampling,
        transcript: Path,
        max_prompt_tokens: int = 1536,
    ) -> None:
        self.character, self.statements = character, tuple(statements)
        self.player, self.evaluator, self.sampling = player, evaluator, sampling
        self.transcript, self.max_prompt_tokens = transcript, max_prompt_tokens
        self._retrieve, self._compose = retrieve, compose
        self.history: tuple[Message, ...] = ()
        self._turns = 0

    def answer(self, query: str) -> Iterator[str]:
        """Streams the reply; the turn counts once the reply is complete.

        Raises:
            DataError: the query alone is longer than a whole conversation may be.
        """
        asked: Message = {"role": "user", "content": query}
        if self.player.count_tokens([asked]) > self.max_prompt_tokens:
            raise DataError(
                f"that is longer than {self.max_prompt_tokens} tokens", "say it shorter"
            )
        prompt = self._prompt(query)
        sampling = replace(self.sampling, seed=self.sampling.seed + self._turns)
        pieces = []
        for piece in self.player.stream(prompt, sampling):
            pieces.append(piece)
            yield piece
        self._keep(query, clean("".join(pieces), self.character))

    def why(self) -> tuple[list[str], Score | None] | None:
        """(statements shown for the last query, APC of the last reply); None before the first."""
        if not self.history:
            return None
        query, reply = (turn["content"] for turn in self.history[-2:])
        before, score = self.history[:-2], None
        if self.evaluator:
            asked = query_in_context(query, before)
            [score] = self.evaluator.score(self.character, self.statements, asked, [reply])
        return self._retrieve(query, before), score

    def reset(self) -> None:
        """Forgets the turns so far; the transcript keeps them."""
        self.history = ()

    def _prompt(self, query: str) -> list[Message]:
        return fitting(
            lambda history: self._compose(query, history),
            self.history,
            self.player.count_tokens,
            self.max_prompt_tokens,
        )

    def _keep(self, query: str, reply: str) -> None:
        turns: tuple[Message, ...] = (
            {"role": "user", "content": query},
            {"role": "assistant", "content": reply},
        )
        self.history += turns
        self._turns += 1
        self.transcript.parent.mkdir(parents=True, exist_ok=True)
        with self.transcript.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(turn, ensure_ascii=False) + "\n" for turn in turns)
