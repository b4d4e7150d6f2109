"""DPO and the whole GPU stage, the public recipe and ours in one run: python bench/train.py

    python bench/train.py                                       # Gemma-7B's shape, random weights
    python bench/train.py --parts nf4 --gpu-gib 24              # as if the GPU had 24 GiB
    python bench/train.py --shape tiny --judges tiny --pairs 8  # a smoke test anywhere

`bf16` and `nf4` compare DPO. `stage` is 100 queries: two replies of 100 tokens to each, 30
statements judged for every reply, DPO on 100 pairs for 10 epochs. Ours runs whole. Of the public
recipe, which would take a quarter of an hour, some replies, texts and pairs are timed and
multiplied. Loading is not timed; what ours does besides is: capturing graphs, compiling kernels,
measuring memory, references.
"""

import argparse
import tempfile
import time
from pathlib import Path

import dpo
import peft
import sampling
import torch
import transformers
import trl
from dpo import DEVICE, PROMPT, RANK, REPLY, Trained
from random_models import SHAPES, random_player
from scoring_material import SHAPES as JUDGES
from scoring_material import Persona, write_pair
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from apc_cli.models.judging.scorer import Scorer
from apc_cli.models.memory import release
from apc_cli.prompts import nli_text

STATEMENTS, REPLIES, EPOCHS = 30, 2, 10


def compare(options: argparse.Namespace, kind: str) -> None:
    """DPO in bf16 or nf4."""
    public = _public_dpo(options, kind)
    made = dpo.ours(options.shape, options.pairs, options.epochs, nf4=kind == "nf4", kind=kind)
    _say(made)
    release()
    _say(f"{'':44} {public.each / made.each:7.1f} times as fast")


def stage(options: argparse.Namespace) -> None:
    """The whole GPU stage."""
    ours = {"sampling": _our_sampling(options), "scoring": _our_scoring(options)}
    trained = dpo.ours(options.shape, options.pairs, EPOCHS, nf4=False, kind="bf16")
    _say(trained)
    ours["DPO"] = trained.seconds
    public = {
        "sampling": _public_sampling(options),
        "scoring": _public_scoring(options),
        "DPO": _public_dpo(options, "bf16").each / 1000 * options.pairs * EPOCHS,
    }
    _say(f"{'the whole stage, seconds':32} public     ours   times as fast")
    for name, spent in (*public.items(), ("all", sum(public.values()))):
        here = ours.get(name, sum(ours.values()))
        _say(f"{name:32} {spent:6.1f} {here:8.1f} {spent / here:8.1f}")


def _public_dpo(options: argparse.Namespace, kind: str) -> Trained:
    made = dpo.public_recipe(options.shape, options.public_pairs, nf4=kind == "nf4", kind=kind)
    _say(made)
    release()
    return made


def _public_sampling(options: argparse.Namespace) -> float:
    """One reply at a time, in nf4 on a GPU."""
    player = sampling.endless(random_player(options.shape, DEVICE, nf4=DEVICE == "cuda"))
    prompts = sampling.talks(player, 2, PROMPT)
    sampling.public_recipe(player, prompts[:1], 4)
    found = sampling.public_recipe(player, prompts, REPLY)
    _say(f"public recipe, sampling: {found.speed:.1f} tok/s")
    return options.pairs * REPLIES * REPLY / found.speed


def _our_sampling(options: argparse.Namespace) -> float:
    player = sampling.endless(random_player(options.shape, DEVICE))
    prompts = sampling.talks(player, options.pairs, PROMPT)
    found = sampling.ours(player, prompts, REPLIES, REPLY)
    _say(f"ours, sampling: {found.speed:.0f} tok/s, {found.peak_gib:.1f} GiB")
    del player
    release()
    return found.seconds


def _public_scoring(options: argparse.Namespace) -> float:
    """One text at a time in float32: a statement's relevance and its entailment for each reply."""
    persona = Persona(STATEMENTS)
    with tempfile.TemporaryDirectory() as folder:
        _, nli = write_pair(options.judges, Path(folder), torch.device(DEVICE))
        reader = AutoTokenizer.from_pretrained(nli)
        model = AutoModelForSequenceClassification.from_pretrained(nli).to(DEVICE).eval()
        texts = [
            nli_text(persona.name, statement, query, reply)
            for query, reply in persona.replies(2, 1)
            for statement in persona.statements
        ]
        with torch.no_grad():
            for number, text in enumerate(texts):
                if number == 10:
                    started = time.perf_counter()
                model(**reader(text, return_tensors="pt").to(DEVICE)).logits.softmax(-1)[0].tolist()
    each = (time.perf_counter() - started) / (len(texts) - 10)
    _say(f"public recipe, scoring: {1 / each:.0f} texts/s")
    return each * options.pairs * REPLIES * STATEMENTS * 2


def _our_scoring(options: argparse.Namespace) -> float:
    persona = Persona(STATEMENTS)
    with tempfile.TemporaryDirectory() as folder:
        relevance, nli = write_pair(options.judges, Path(folder), torch.device(DEVICE))
        scorer = Scorer.load(relevance=relevance, nli=nli)
        replies = persona.replies(options.pairs, REPLIES)
        started = time.perf_counter()
        scorer.score_all(persona.name, persona.statements, replies)
    spent = time.perf_counter() - started
    del scorer
    release()
    return spent


def _say(what: object) -> None:
    print(what, flush=True)


def main() -> None:
    """Prints a line for each way, and the ratios."""
    options = _options()
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    _say(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}, "
         f"trl {trl.__version__}, peft {peft.__version__}")  # fmt: skip
    _say(f"{options.shape}: prompts of {PROMPT} tokens, replies of {REPLY}, LoRA rank {RANK}")
    if DEVICE == "cuda" and options.gpu_gib:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(options.gpu_gib * 2**30 / total)
    for part in options.parts.split(","):
        if part == "stage":
            stage(options)
        else:
            compare(options, part)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="gemma-7b")
    parser.add_argument("--judges", choices=sorted(JUDGES), default="deberta-large")
    parser.add_argument("--parts", default="bf16,nf4,stage")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--epochs", type=float, default=2, help="of DPO alone")
    parser.add_argument("--public-pairs", type=int, default=10)
    parser.add_argument("--gpu-gib", type=float, help="as if the GPU had only so much memory")
    return parser.parse_args()


if __name__ == "__main__":
    main()
