"""Pairs a second of the scoring engine beside the usual ways, in one run: python bench/score.py

    python bench/score.py --shape deberta-large                  # a GPU
    python bench/score.py --shape deberta-large --rows 100000    # `apc score` from start to end
    python bench/score.py --shape minilm                         # a CPU
    python bench/score.py --shape tiny --pairs 64                # a smoke test

Weights are random, shapes are real (bench/scoring_material.py); nothing is downloaded. The limit is
what the linear layers would need at the speed of large matrix products, measured in the same run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import transformers
from scoring_material import SHAPES, Persona, write_pair
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.models.judging.networks import FlatClassifier
from apc_cli.models.judging.scorer import Scorer
from apc_cli.prompts import nli_prompt, nli_text
from apc_cli.records import NLI_LABELS

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZES = (8, 30, 146, 599)
LONGER = 4
"""Times as many pairs where only ours is timed, so that its start weighs as it does in use."""


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        relevance, nli = write_pair(options.shape, Path(folder), DEVICE)
        if options.rows:
            return _end_to_end(options, Path(folder), relevance, nli)
        persona = Persona(30)
        texts = [
            nli_text(persona.name, s, q, r)
            for q, r in persona.replies(-(-options.pairs // 30), 1)
            for s in persona.statements
        ][: options.pairs]
        lengths = _lengths(nli, texts)
        limit = _limit(options.shape)
        pairs = limit / np.mean(lengths)
        _say(f"{_machine()}; {options.shape}; {len(texts)} texts of {np.mean(lengths):.0f} tokens "
             f"({min(lengths)} to {max(lengths)}); limit {pairs:.0f} pairs/s")  # fmt: skip
        _compare(nli, texts, pairs, options)
        _sizes(nli, limit, options)
        _reuse(relevance, nli, options)


def _compare(nli: str, texts: list[str], limit: float, options: argparse.Namespace) -> None:
    """The table of ways to judge the same texts."""
    exact = _exact(nli, texts)
    slow = max(8, options.pairs // (200 if DEVICE.type == "cuda" else 8))
    timed = {"public loop: one text, float32": (lambda: _loop(nli), slow)}
    for name, half, size in (
        ("CrossEncoder, defaults", False, 32),
        ("CrossEncoder, bfloat16", True, 32),
        ("CrossEncoder, bfloat16, batch 256", True, 256),
        ("CrossEncoder, batch 128", False, 128),
    ):
        count = options.pairs // (1 if half and DEVICE.type == "cuda" else 4)
        timed[name] = (lambda h=half, s=size: _cross_encoder(nli, h, s), count)
    timed["apc, float32, sorted batches"] = (lambda: _ours(nli, "float32"), options.pairs // 4)
    if DEVICE.type == "cuda":
        timed["apc, float16, sorted batches"] = (lambda: _padded(nli), options.pairs)
        timed["apc, bfloat16, no padding"] = (lambda: _ours(nli, "bfloat16"), options.pairs)
    timed["apc, as it chooses"] = (lambda: _ours(nli, "auto"), options.pairs)
    slowest = None
    _say(f"{'':36}  pairs/s  × loop  limit  peak GiB  as float32  largest gap")
    for name, (make, count) in timed.items():
        rate, found, memory = _time(make(), texts[:count])
        slowest = slowest or rate
        same, gap = _agreement(found, exact[:count])
        figures = f"{rate:7.1f}  {rate / slowest:6.1f}  {rate / limit:5.1%}  {memory:8.2f}"
        _say(f"{name:36}  {figures}  {same:10.4f}  {gap:.4f}")


def _sizes(nli: str, limit: float, options: argparse.Namespace) -> None:
    """From text to probabilities for personas of four sizes."""
    judge = Discriminator.load(nli, labels=NLI_LABELS)
    for size in SIZES:
        persona = Persona(size)
        replies = persona.replies(max(1, LONGER * options.pairs // size), 1)
        prompts = [nli_prompt("released", persona.name, persona.statements, *r) for r in replies]
        judge.prompt_probabilities(prompts[: max(1, len(prompts) // 8)])
        start = time.perf_counter()
        found = judge.prompt_probabilities(prompts)
        rate = sum(map(len, found)) / (time.perf_counter() - start)
        texts = [prompt.prefix + branch for prompt in prompts for branch in prompt.branches]
        tokens = np.mean(_lengths(nli, texts))
        _say(f"{size} statements, {len(replies)} replies, {tokens:.0f} tokens a pair: "
             f"{rate:.1f} pairs/s, {rate * tokens / limit:.1%}")  # fmt: skip


def _reuse(relevance: str, nli: str, options: argparse.Namespace) -> None:
    """Whole scores with the relevance of a query used for its four replies."""
    persona, scorer = Persona(30), Scorer.load(relevance=relevance, nli=nli)
    for each in (1, 4):
        replies = persona.replies(max(1, LONGER * options.pairs // 30 // each), each)
        scorer.score_all(persona.name, persona.statements, replies[: max(4, len(replies) // 8)])
        fresh = scorer.for_shard()
        start = time.perf_counter()
        scores = fresh.score_all(persona.name, persona.statements, replies)
        rate = len(scores) * 30 / (time.perf_counter() - start)
        _say(f"{each} replies a query, 30 statements: {rate:.1f} statement-reply scores/s "
             f"(the public loop reads {2 * rate:.1f} texts for them)")  # fmt: skip


def _end_to_end(options: argparse.Namespace, folder: Path, relevance: str, nli: str) -> None:
    """`apc score` of a file of rows with 8 statements, 4 replies to each query."""
    persona = Persona(8)
    with (folder / "rows.jsonl").open("w") as file:
        for query, reply in persona.replies(options.rows // 4, 4):
            row = {"query": query, "response": reply, "statements": persona.statements}
            file.write(json.dumps(row) + "\n")
    command = [
        sys.executable, "-m", "apc_cli.cli", "score", str(folder / "rows.jsonl"),
        "-o", str(folder / "out.jsonl"), "--set", f"evaluator.relevance={relevance}",
        "--set", f"evaluator.nli={nli}", "--set", f"device={DEVICE.type}", *options.more,
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - start
    _say(done.stderr)
    rate = options.rows / seconds
    _say(f"apc score, {options.rows} rows of 8 statements: {seconds:.0f} s from start to end, ")
    _say(f"{rate:.0f} rows/s, {8 * rate:.0f} pairs/s")


Judge = Callable[[list[str]], np.ndarray]


def _loop(nli: str) -> Judge:
    """What the public code does."""
    reader = AutoTokenizer.from_pretrained(nli)
    model = AutoModelForSequenceClassification.from_pretrained(nli).to(DEVICE).eval()

    @torch.no_grad()
    def judge(texts: list[str]) -> np.ndarray:
        rows = [
            model(**reader(text, return_tensors="pt").to(DEVICE)).logits.softmax(-1)[0].tolist()
            for text in texts
        ]
        return np.array(rows)

    return judge


def _cross_encoder(nli: str, half: bool, size: int) -> Judge:
    options = {"model_kwargs": {"dtype": torch.bfloat16}} if half else {}
    encoder = CrossEncoder(nli, device=DEVICE.type, num_labels=3, **options)

    def judge(texts: list[str]) -> np.ndarray:
        pairs = [(text, "") for text in texts]
        return encoder.predict(pairs, batch_size=size, apply_softmax=True, show_progress_bar=False)

    return judge


def _ours(nli: str, dtype: str) -> Judge:
    return Discriminator.load(nli, labels=NLI_LABELS, dtype=dtype).probabilities


def _padded(nli: str) -> Judge:
    """The portable path: half precision through transformers' own forward."""
    judge = Discriminator.load(nli, labels=NLI_LABELS, trainable=True)
    network = FlatClassifier(judge.network.model.half(), judge.network.tokenizer)
    return Discriminator(network, judge.description, nli).probabilities


@torch.inference_mode()
def _exact(nli: str, texts: list[str]) -> np.ndarray:
    return _ours(nli, "float32")(texts)


def _time(judge: Judge, texts: list[str]) -> tuple[float, np.ndarray, float]:
    """(texts a second, probabilities, peak GiB on the GPU) after a warm-up of an eighth."""
    judge(texts[: max(8, len(texts) // 8)])
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    start = time.perf_counter()
    found = judge(texts)
    rate = len(texts) / (time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else float("nan")
    return rate, np.asarray(found, np.float32), memory


def _agreement(found: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """(share of equal decisions, largest difference of a probability)."""
    gap = float(np.abs(found - exact).max())
    return float((found.argmax(1) == exact.argmax(1)).mean()), gap


def _lengths(nli: str, texts: list[str]) -> list[int]:
    """Tokens of each text."""
    return [len(ids) for ids in AutoTokenizer.from_pretrained(nli)(texts).input_ids]


def _limit(shape: str) -> float:
    """Tokens a second if the linear layers ran at the speed of a large matrix product."""
    _, _, _, width, layers, _ = SHAPES[shape]
    half = DEVICE.type == "cuda"
    size = 8192 if half else 2048
    a, b = (
        torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16 if half else torch.float32)
        for _ in range(2)
    )
    for _ in range(3):
        a @ b
    _wait()
    start = time.perf_counter()
    for _ in range(10):
        a @ b
    _wait()
    speed = 10 * 2 * size**3 / (time.perf_counter() - start)
    _say(f"matrix products: {speed / 1e12:.1f} TFLOP/s ({'bfloat16' if half else 'float32'})")
    return speed / (layers * 2 * 12 * width**2)


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _machine() -> str:
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{name}, {os.cpu_count()} cores, {versions}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="deberta-large")
    parser.add_argument("--pairs", type=int, default=8_192 if DEVICE.type == "cuda" else 1_024)
    parser.add_argument("--rows", type=int, default=0, help="only time `apc score` on so many rows")
    parser.add_argument("more", nargs="*", help="further options of `apc score`, after --")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
