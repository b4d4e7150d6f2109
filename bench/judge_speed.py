"""Seconds that the shipped judges take for one reply on a CPU: python bench/judge_speed.py

    python bench/judge_speed.py
    python bench/judge_speed.py --pair reward --batch

One reply against 8 statements: relevance and NLI for a query that was never asked before, and NLI
alone, for a query whose relevance is known. The character has a name of one token or of several.
Medians of 25 queries after 3 others; the cores should be idle. Beside it the same 16 (8) texts,
each read on its own by transformers' own forward in the same number format, 8 in a padded batch,
and the largest difference between the two of any probability. `--batch` times 36 replies to one
query against 15 statements in one call.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import transformers
from scoring_material import Persona

from apc_cli.models.devices import in_format, pick_dtype
from apc_cli.models.discriminator import Discriminator
from apc_cli.models.networks import FlatClassifier
from apc_cli.models.scorer import Scorer
from apc_cli.prompts import Prompt, nli_prompt, relevance_prompt
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS

NAMES, STATEMENTS = ("Alice", "Nefrusobek"), 8
WARM_UPS, QUERIES = 3, 25
LABELS = {"relevance": RELEVANCE_LABELS, "nli": NLI_LABELS}
Asked = tuple[str, str]
"""A query and a reply."""


def main() -> None:
    options = _options()
    references = {kind: f"judge:{options.pair}/{kind}" for kind in LABELS}
    scorer = Scorer.load(**references, device="cpu")
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
          f"transformers {transformers.__version__}; the {options.pair} pair; seconds")  # fmt: skip
    if options.batch:
        return _batch(scorer)
    plain = {kind: _plain(reference, LABELS[kind]) for kind, reference in references.items()}
    print(f"{'':34}  relevance + NLI  NLI alone  largest gap")
    for name in NAMES:
        _compare(name, scorer, plain)


def _compare(name: str, scorer: Scorer, plain: dict[str, Discriminator]) -> None:
    statements, asked = _material(name)
    reader = plain["nli"].network.tokenizer
    label = f"{name}, {len(reader(' ' + name).input_ids)} token(s)"

    def ours(one: Asked) -> list[np.ndarray]:
        [score] = scorer.score(name, statements, one[0], [one[1]])
        parts = [(c.relevance, c.contradicted, c.neutral, c.entailed) for c in score.constraints]
        return [np.array(parts)[:, :1], np.array(parts)[:, 1:]]

    def each_alone(one: Asked) -> list[np.ndarray]:
        relevance, nli = (_flat(prompt) for prompt in _prompts(name, statements, one))
        [yes] = plain["relevance"].prompt_probabilities([relevance])
        return [yes[:, 1:], *plain["nli"].prompt_probabilities([nli])]

    def nli_alone(one: Asked) -> list[np.ndarray]:
        return plain["nli"].prompt_probabilities([_flat(_prompts(name, statements, one)[1])])

    both, found = _median(ours, asked)
    alone, _ = _median(ours, asked)  # the relevance of these queries is known now
    theirs, expected = _median(each_alone, asked)
    their_alone, _ = _median(nli_alone, asked)
    pairs = zip(sum(found, []), sum(expected, []), strict=True)
    gap = max(float(np.abs(one - other).max()) for one, other in pairs)
    print(f"{label + ', apc':34}  {both:15.3f}  {alone:9.3f}  {gap:11.3f}")
    print(f"{label + ', each text alone':34}  {theirs:15.3f}  {their_alone:9.3f}", flush=True)


def _material(name: str) -> tuple[list[str], list[Asked]]:
    """Statements of the character; different queries with a reply each, the warm-ups first."""
    persona = Persona(STATEMENTS, reply_words=24)
    return [s.replace(persona.name, name) for s in persona.statements], persona.replies(
        WARM_UPS + QUERIES, 1
    )


def _prompts(name: str, statements: Sequence[str], one: Asked) -> tuple[Prompt, Prompt]:
    style = "statement-last"
    return relevance_prompt(style, name, statements, one[0]), nli_prompt(
        style, name, statements, *one
    )


def _flat(prompt: Prompt) -> Prompt:
    """The whole texts, to be read one by one."""
    return Prompt("", tuple(prompt.prefix + branch for branch in prompt.branches))


def _plain(reference: str, labels: tuple[str, ...]) -> Discriminator:
    """The same weights behind transformers' own forward."""
    judge = Discriminator.load(reference, labels=labels, device="cpu", dtype="float32")
    model = in_format(judge.network.model, pick_dtype("auto", torch.device("cpu")))
    network = _Padded(model, judge.network.tokenizer)
    return Discriminator(network, judge.description, judge.base)


class _Padded(FlatClassifier):
    """All texts of a call in one padded batch."""

    def run(self, prompts: Sequence[Prompt], batch_tokens: int | None):
        yield list(range(len(prompts))), self.logits(prompts)


def _median(
    judge: Callable[[Asked], list[np.ndarray]], asked: Sequence[Asked]
) -> tuple[float, list[list[np.ndarray]]]:
    """The median time of a call, and what the calls returned."""
    seconds, found = [], []
    for one in asked:
        start = time.perf_counter()
        found.append(judge(one))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UPS:]), found


def _batch(scorer: Scorer) -> None:
    """36 replies in one call, three times."""
    persona, seconds = Persona(15, reply_words=24), []
    for query, _ in persona.replies(WARM_UPS + 1, 1):
        replies = [persona.reply() for _ in range(36)]
        start = time.perf_counter()
        scorer.score(persona.name, persona.statements, query, replies)
        seconds.append(time.perf_counter() - start)
    print("36 replies, 15 statements:", ", ".join(f"{one:.2f}" for one in seconds[1:]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", choices=("evaluator", "reward"), default="evaluator")
    parser.add_argument("--batch", action="store_true", help="only time many replies in one call")
    return parser.parse_args()


if __name__ == "__main__":
    main()
