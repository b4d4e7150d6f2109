"""The role-play model behind an OpenAI-compatible server, in the place of one with weights here."""

from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from apc_cli.config import Policy
from apc_cli.errors import ApcError, ConfigError, TryAgainLater
from apc_cli.models.llm.chat_endpoint import policy_endpoint
from apc_cli.models.llm.chat_estimates import tokens_in
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_replies import Choice, Failure
from apc_cli.models.llm.chat_requests import ChatRequest
from apc_cli.models.llm.journal import Journal
from apc_cli.models.playing.role_player import clean
from apc_cli.models.playing.sampling import Sampling
from apc_cli.records import Message

JOURNAL = "policy.journal"
_AT_ONCE = 512
"""Replies that are handed over together at least: what is stored one by one loses nothing."""
_AROUND_A_TURN = 6
"""Tokens that a chat template puts around a turn, roughly."""
_TAIL = 48
"""Characters by which a reply that was cut off is known again."""


class ServedPlayer:
    """Answers conversations as the character; every reply is kept in a journal.

    A reply's seed is that of the run and its query's place; servers that take no seed, no `n` or no
    further sampling parameter are asked without it, and said so.
    """

    has_likelihoods = False
    context_length = None

    def __init__(self, policy: Policy, journal: Journal, say: Callable[[str], None]) -> None:
        """Nothing is sent yet.

        Raises:
            ConfigError: the key is missing or the address cannot be used.
        """
        endpoint = policy_endpoint(policy.base_url, insecure=policy.insecure_http)
        self._chat = ChatModel(
            policy.model, policy.base_url, policy.concurrency, journal, endpoint=endpoint
        )
        self._say = say
        self._cut: set[str] = set()

    def sample(
        self,
        conversations: Sequence[Sequence[Message]],
        n: int,
        sampling: Sampling,
        batch_size: int | None = None,
        done: Callable[[int], None] | None = None,
    ) -> list[list[str]]:
        """Samples n replies to each conversation, all asked for at once.

        Raises:
            TryAgainLater: the server gave no reply for a passing reason; what arrived is stored.
            ApcError: the server refuses a conversation.
        """
        seeds = [sampling.seed + place for place in range(len(conversations))]
        asked = [
            _request(talk, sampling, seed, n)
            for talk, seed in zip(conversations, seeds, strict=True)
        ]
        found = [choices[:n] for choices in self._ask(asked)]
        owed = [(i, k) for i, had in enumerate(found) for k in range(len(had), n)]
        singly = [_request(conversations[i], sampling, seeds[i], 1, k) for i, k in owed]
        for (i, _), choices in zip(owed, self._ask(singly), strict=True):
            found[i] = [*found[i], choices[0]]
        if done:
            done(len(conversations))
        return [[self._text(choice) for choice in choices] for choices in found]

    def stream(self, conversation: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """One reply, in one piece."""
        [[reply]] = self.sample([conversation], 1, sampling)
        yield reply

    def conversations_at_once(
        self, batch_size: int | None, n: int, total: int | None = None
    ) -> int:
        """How many conversations are well handed over together: replies are stored one by one."""
        return max(1, max(batch_size or 0, _AT_ONCE) // n)

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """How many tokens the conversation takes, by a rule of thumb."""
        return sum(tokens_in(turn["content"]) + _AROUND_A_TURN for turn in conversation)

    def room_for_prompts(self, policy: Policy) -> int:
        """How many tokens a prompt may take."""
        return policy.max_prompt_tokens

    def fills(self, reply: str, max_new_tokens: int) -> bool:
        """Whether the server said that the reply was cut off."""
        return reply[-_TAIL:] in self._cut

    def negative_log_likelihood(
        self, conversations: Sequence[Sequence[Message]], replies: Sequence[str]
    ) -> NoReturn:
        """Raises ConfigError: servers do not tell how likely a given reply is."""
        raise ConfigError(
            "the likelihood of a reply needs the model's weights, a server does not tell it",
            "set policy.backend: transformers, or leave dpo.max_nll out",
        )

    def _ask(self, requests: Sequence[ChatRequest]) -> list[list[Choice]]:
        answers = self._chat.choices_all(requests)
        for line in self._chat.news_of_terms():
            self._say(line)
        failed = [answer for answer in answers if isinstance(answer, Failure)]
        passing = [answer for answer in failed if answer.temporary]
        if passing:
            raise TryAgainLater(
                f"{len(passing)} replies of the role-play model are missing: {passing[0].reason}",
                "replies so far are stored; run again to go on",
            )
        if failed and all(request.choices == 1 for request in requests):
            raise ApcError(
                f"the role-play model's server gave no reply: {failed[0].reason}",
                "check policy.model and policy.max_new_tokens",
            )
        return [[] if isinstance(answer, Failure) else answer for answer in answers]

    def _text(self, choice: Choice) -> str:
        text = clean(choice.text)
        if choice.cut:
            self._cut.add(text[-_TAIL:])
        return text


def _request(
    talk: Sequence[Message], sampling: Sampling, seed: int, choices: int, number: int = 0
) -> ChatRequest:
    extra: dict[str, float] = {"seed": seed + 1_000_003 * number}
    if sampling.top_p < 1:
        extra["top_p"] = sampling.top_p
    if sampling.min_p:
        extra["min_p"] = sampling.min_p
    if sampling.repetition_penalty != 1:
        extra["repetition_penalty"] = sampling.repetition_penalty
    return ChatRequest(
        tuple(talk), sampling.temperature, sampling.max_new_tokens, number,
        choices=choices, extra=extra,
    )  # fmt: skip
