"""Replies sampled by the decoding loop, as many at a time as memory takes.

`generate` is left for models that the loop does not read exactly as they read themselves.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import PeftModel

from apc_cli.errors import TryAgainLater
from apc_cli.models.devices import on
from apc_cli.models.memory import free_bytes
from apc_cli.models.playing.decoding import READ_AT_ONCE, DecodingLoop, Job
from apc_cli.models.playing.merged_layers import copied_bytes, merged, replaceable
from apc_cli.models.playing.sampling import Sampling, ends_of
from apc_cli.models.playing.slots import LayerShape, UnsupportedModel, bytes_a_token, layer_shapes

_MOST_AT_ONCE = {"cuda": 512, "cpu": 64}
"""Replies under way at most: a step of so many is bound by arithmetic, more gain nothing."""

_AGREEMENT = 0.1
"""How far the loop's logits may be from the model's own, as a share of their spread: half-precision
sums are rounded differently, but a model that attends in another way is off by about one."""
_SPARED = 0.9
"""The share of the free memory that is used."""
_SCRATCH = 10
"""Copies of the logits, in float32, that drawing a token may take."""

_log = logging.getLogger(__name__)


class SlotSampler:
    """Samples from one model; what it found out about the model is kept."""

    def __init__(self, model: Any) -> None:
        self._model = model.get_base_model() if isinstance(model, PeftModel) else model
        self._ends = ends_of(self._model)
        self._shapes = self._known_shapes()

    @property
    def supported(self) -> bool:
        """Whether the loop reads the model as it reads itself."""
        return self._shapes is not None

    @property
    def most_at_once(self) -> int:
        """How many replies are under way where no number is given and memory suffices."""
        return _MOST_AT_ONCE[self._model.device.type]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        sampling: Sampling,
        most: int | None = None,
        done: Callable[[int], None] | None = None,
    ) -> list[list[list[int]]]:
        """The tokens of n replies to each prompt, at most `most` under way at a time.

        Runs out of memory: half as many go on, and what was finished is kept. `done` is called with
        the number of prompts that were just finished.

        Raises:
            UnsupportedModel: the loop cannot do it: its step is no CUDA graph, or prompts and
                replies are longer than a window of the model.
            TryAgainLater: not even one reply fits into the memory that is free.
        """
        window = min(shape.window for shape in self._shapes or [])
        if max(map(len, prompts)) + sampling.max_new_tokens > window:
            raise UnsupportedModel(f"the model looks back {window} tokens, less than is read")
        found: list[dict[int, list[int]]] = [{} for _ in prompts]

        def keep(job: Job, tokens: list[int]) -> None:
            found[job.prompt][job.number] = tokens
            if done and len(found[job.prompt]) == n:
                done(1)

        jobs = [Job(i, k) for i in range(len(prompts)) for k in range(n)]
        with on(self._model.device), self._plain_layers():
            at_once = self._fitting(prompts, n, sampling, min(most or self.most_at_once, len(jobs)))
            left = jobs
            while not self._write(prompts, n, sampling, left, min(at_once, len(left)), keep):
                torch.cuda.empty_cache()
                left = [job for job in jobs if job.number not in found[job.prompt]]
                at_once //= 2
                if not at_once:
                    raise out_of_memory(1)
                _log.warning("out of GPU memory: going on with %d replies at a time", at_once)
        return [[replies[k] for k in range(n)] for replies in found]

    def _write(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        sampling: Sampling,
        jobs: Sequence[Job],
        at_once: int,
        keep: Callable[[Job, list[int]], None],
    ) -> bool:
        """Whether memory sufficed; a loop that ran out of it is gone when this returns."""
        try:
            readable = _readable(len({job.prompt for job in jobs}), n, at_once)
            loop = DecodingLoop(
                self._model, self._shapes or [], prompts, at_once, readable, sampling, self._ends
            )
            loop.run(jobs, keep)
        except torch.OutOfMemoryError:
            return False
        return True

    def _plain_layers(self) -> AbstractContextManager[None]:
        """Plain copies of adapted layers, where memory takes them and a few replies beside."""
        layers, dtype = replaceable(self._model), self._model.dtype
        needed = copied_bytes(layers, dtype)
        if not layers or needed > _free(self._model.device) // 2:
            return nullcontext()
        return merged(layers, dtype)

    def _fitting(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, wanted: int
    ) -> int:
        """How many of the wanted replies fit into the memory that is free, at least one."""
        config = self._model.config.get_text_config()
        token = bytes_a_token(self._shapes or [], self._model.dtype)
        width = getattr(config, "intermediate_size", 4 * config.hidden_size)
        reading = READ_AT_ONCE * (token + 4 * width * self._model.dtype.itemsize)
        room = _free(self._model.device) * _SPARED - reading
        longest = max(map(len, prompts))

        def takes(replies: int) -> int:
            kept = _readable(len(prompts), n, replies) * longest
            kept += replies * sampling.max_new_tokens
            return kept * token + replies * config.vocab_size * 4 * _SCRATCH

        while wanted > 1 and takes(wanted) > room:
            wanted = wanted * 7 // 8
        return wanted

    @torch.inference_mode()
    def _known_shapes(self) -> list[LayerShape] | None:
        """The shapes of its keys and values, if the loop predicts what the model predicts."""
        model, device = self._model, self._model.device
        ids = [1 + i % (model.config.get_text_config().vocab_size - 1) for i in range(3, 40)]
        own = model(input_ids=torch.tensor([ids], device=device), use_cache=True, logits_to_keep=1)
        shapes = layer_shapes(getattr(own, "past_key_values", None))
        if shapes is None or _rewrites_scores(model.generation_config):
            return None
        once = Sampling(max_new_tokens=1)
        try:
            with on(device):
                loop = DecodingLoop(model, shapes, [ids], 1, 1, once, self._ends)
                found = loop.first_logits()
        except (UnsupportedModel, TypeError, ValueError) as error:
            _log.info("sampling by generate: %s", error)
            return None
        exact = own.logits[0, -1].float()
        off = (found - exact).norm() / (exact - exact.mean()).norm().clamp(min=1e-9)
        return shapes if off <= _AGREEMENT else None


def out_of_memory(replies: int) -> TryAgainLater:
    """The error where not even so many replies fit."""
    return TryAgainLater(
        f"the GPU's memory does not suffice to sample {replies} replies at once",
        "free some of it, or lower policy.max_new_tokens; replies so far are kept",
    )


def _readable(prompts: int, n: int, replies: int) -> int:
    """How many prompts are kept: of those with replies under way, some have only stragglers."""
    return min(prompts, replies, 2 * -(-replies // n))


def _free(device: torch.device) -> float:
    """Bytes that are free, those that PyTorch holds without using them among them."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return free_bytes(device)


def _rewrites_scores(config: Any) -> bool:
    """Whether `generate` would also apply processors that the loop does not know."""
    names = (
        "no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "suppress_tokens",
        "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "min_length",
        "min_new_tokens", "typical_p", "epsilon_cutoff", "eta_cutoff", "guidance_scale",
    )  # fmt: skip
    return any(getattr(config, name, None) not in (None, 0, 1.0, []) for name in names)
