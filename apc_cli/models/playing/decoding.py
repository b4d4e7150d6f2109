"""Many replies written at once: one captured step, replayed, with a new reply wherever one ends.

The key-value slots (`models/playing/slots.py`) never move, so a step is one CUDA graph; on a CPU it
is run as it is, for the replies that still go on. A reply's randomness is its own: uniform numbers
from the seed, the place of its query and its number, so that neither the batch size nor the replies
beside it decide what is drawn (only how sums are rounded).
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from apc_cli.models.playing.sampling import Sampling
from apc_cli.models.playing.slots import LayerShape, Slots, UnsupportedModel, reading_slots

READ_AT_ONCE = 8192
"""Tokens of prompts that are read together."""
_LOOK_EVERY = 8
"""Steps between looks at which replies have ended: a look makes the device wait."""


class Job(NamedTuple):
    """One reply to be written: the index of its prompt, and its number among that prompt's."""

    prompt: int
    number: int


class DecodingLoop:
    """Writes replies to `prompts` (token ids), `replies` of them at a time."""

    def __init__(
        self,
        model: Any,
        shapes: Sequence[LayerShape],
        prompts: Sequence[Sequence[int]],
        replies: int,
        readable: int,
        sampling: Sampling,
        ends: Sequence[int],
    ) -> None:
        """`readable` prompts are kept at a time; a reply ends with one of the tokens `ends`."""
        self._model, self._prompts, self._sampling = model, prompts, sampling
        device, longest = model.device, max(map(len, prompts))
        new = sampling.max_new_tokens
        self._slots = Slots(shapes, readable, replies, longest - 1, new, model.dtype, device)
        self._ends = torch.tensor(list(ends), device=device)
        self._token = torch.zeros(replies, dtype=torch.long, device=device)
        self._said = torch.zeros(replies, new, dtype=torch.long, device=device)
        self._luck = torch.zeros(replies, new, device=device)
        self._processors = logits_processors(sampling)
        penalised = sampling.repetition_penalty != 1.0
        self._seen = torch.zeros(
            replies, longest + new if penalised else 0, dtype=torch.long, device=device
        )
        self._jobs: list[Job | None] = [None] * replies
        self._places: dict[int, int] = {}
        self._free = list(range(readable))
        self._graph: Any = None

    def run(self, jobs: Iterable[Job], keep: Callable[[Job, list[int]], None]) -> None:
        """Calls `keep` with the tokens of each job as soon as they are known.

        Raises:
            UnsupportedModel: the step cannot be captured, or the model attends in another way.
        """
        waiting = deque(jobs)
        left = Counter(job.prompt for job in waiting)
        step = self._captured() if self._token.device.type == "cuda" else self.step
        self._fill(waiting)
        while any(self._jobs):
            for _ in range(_LOOK_EVERY if self._graph else 1):
                step()
            for job, tokens in self._finished():
                keep(job, tokens)
                left[job.prompt] -= 1
                if not left[job.prompt]:
                    self._free.append(self._places.pop(job.prompt))
            self._fill(waiting)

    def first_logits(self) -> Tensor:
        """The first prediction (vocabulary,) after the first prompt, to compare with another's."""
        self._fill(deque([Job(0, 0)]))
        return self._logits(self._reading())[0]

    def _reading(self) -> slice | Tensor:
        """The slots that a step reads: on a CPU those that live, else all, as a graph must."""
        on_cpu = self._token.device.type == "cpu"
        return self._slots.live.nonzero()[:, 0] if on_cpu else slice(None)

    def _logits(self, rows: slice | Tensor) -> Tensor:
        """What the model predicts next (rows, vocabulary), in float32."""
        slots = self._slots
        slots.begin_step(rows)
        with reading_slots(self._model):
            output = self._model(
                input_ids=self._token[rows][:, None],
                position_ids=(slots.starts + slots.written)[rows].long()[:, None],
                use_cache=False,
                logits_to_keep=1,
                slots=slots,
            )
        return output.logits[:, -1].float()

    def step(self) -> None:
        """The next token of every live reply."""
        slots, rows = self._slots, self._reading()
        live, starts, written = slots.live[rows], slots.starts[rows], slots.written[rows]
        place = written.long().clamp(max=self._said.shape[1] - 1)[:, None]
        scores = self._processors(self._seen[rows], self._logits(rows))
        luck = self._luck[rows].gather(1, place)
        drawn = torch.where(live, draw(scores, luck), self._token[rows])
        self._token[rows] = drawn
        said = self._said[rows]
        kept = torch.where(live[:, None], drawn[:, None], said.gather(1, place))
        self._said[rows] = said.scatter(1, place, kept)
        if self._seen.numel():
            behind = (starts + written + 1).long()[:, None].clamp(max=self._seen.shape[1] - 1)
            self._seen[rows] = self._seen[rows].scatter(1, behind, drawn[:, None])
        written = written + live
        slots.written[rows] = written
        slots.live[rows] = live & (written < said.shape[1]) & (drawn[:, None] != self._ends).all(1)

    def _captured(self) -> Callable[[], None]:
        """The step as a CUDA graph; nothing is live yet, so running it changes nothing."""
        graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                self.step()
        torch.cuda.current_stream().wait_stream(aside)
        try:
            with torch.cuda.graph(graph):
                self.step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UnsupportedModel(f"its step is no CUDA graph: {error}") from error
        self._graph = graph
        return graph.replay

    def _finished(self) -> Iterator[tuple[Job, list[int]]]:
        live, written = self._slots.live.tolist(), self._slots.written.tolist()
        ended = [i for i, job in enumerate(self._jobs) if job and not live[i]]
        for i, tokens in zip(ended, self._said[ended].tolist(), strict=True):
            job, self._jobs[i] = self._jobs[i], None
            assert job is not None
            yield job, tokens[: written[i]]

    def _fill(self, waiting: deque[Job]) -> None:
        """Puts waiting jobs into free slots, after reading the prompts that are new."""
        empty = [i for i, job in enumerate(self._jobs) if job is None]
        rows, new = [], []
        while waiting and len(rows) < len(empty):
            prompt = waiting[0].prompt
            if prompt not in self._places:
                if not self._free:
                    break
                self._places[prompt] = self._free.pop()
                new.append(prompt)
            rows.append(empty[len(rows)])
            self._jobs[rows[-1]] = waiting.popleft()
        if rows:
            self._read(new)
            self._start(rows)

    def _read(self, prompts: list[int]) -> None:
        """Reads prompts without their last token, those of like length together.

        They are padded on the right, where causal attention never looks.
        """
        longest = 0
        batch: list[int] = []
        for prompt in [*sorted(prompts, key=lambda p: len(self._prompts[p])), None]:
            longest = max(longest, len(self._prompts[prompt]) - 1 if prompt is not None else 0)
            if batch and (prompt is None or longest * (len(batch) + 1) > READ_AT_ONCE):
                self._read_batch(batch)
                batch = []
            if prompt is not None:
                batch.append(prompt)

    def _read_batch(self, prompts: list[int]) -> None:
        device = self._token.device
        ids = [torch.tensor(self._prompts[prompt][:-1]) for prompt in prompts]
        padded = pad_sequence(ids, batch_first=True).long().to(device)
        if padded.shape[1]:
            cache = self._model(input_ids=padded, use_cache=True, logits_to_keep=1).past_key_values
            places = torch.tensor([self._places[prompt] for prompt in prompts], device=device)
            self._slots.keep_prompts(places, cache)

    def _start(self, rows: list[int]) -> None:
        """Sets the state of rows that were given a job."""
        jobs = [job for job in (self._jobs[row] for row in rows) if job]
        ids = [self._prompts[job.prompt] for job in jobs]
        new, device, seed = self._said.shape[1], self._token.device, self._sampling.seed
        luck = [
            np.random.default_rng((seed + job.prompt, job.number)).random(new, np.float32)
            for job in jobs
        ]
        at, slots = torch.tensor(rows, device=device), self._slots
        slots.prompt[at] = _counts([self._places[job.prompt] for job in jobs], device)
        slots.starts[at] = _counts([len(one) - 1 for one in ids], device)
        slots.written[at], slots.live[at] = 0, True
        self._token[at] = torch.tensor([one[-1] for one in ids], device=device)
        self._luck[at] = torch.from_numpy(np.stack(luck)).to(device)
        if self._seen.numel():
            width = self._seen.shape[1]
            seen = [[*one, *[one[0]] * (width - len(one))] for one in ids]
            self._seen[at] = torch.tensor(seen, device=device)


def logits_processors(sampling: Sampling) -> LogitsProcessorList:
    """Transformers' own, in the order in which `generate` applies them."""
    made = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        made.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if sampling.temperature != 1.0:
        made.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_p < 1.0:
        made.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0.0:
        made.append(MinPLogitsWarper(sampling.min_p))
    return made


def draw(scores: Tensor, luck: Tensor) -> Tensor:
    """Draws a token from each row of scores (rows, vocabulary) by a uniform number (rows, 1).

    The token is the first at which the cumulated probabilities exceed the number. Where rounding
    would choose one of no probability, the likeliest is taken.
    """
    chances = torch.softmax(scores, dim=-1)
    summed = chances.cumsum(dim=-1)
    found = torch.searchsorted(summed, luck * summed[:, -1:], right=True)
    found = found.clamp(max=scores.shape[1] - 1)
    possible = chances.gather(1, found) > 0
    return torch.where(possible, found, chances.argmax(-1, keepdim=True))[:, 0]


def _counts(values: list[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device)
