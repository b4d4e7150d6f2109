"""The pipeline's stages: what each reads and writes, and the settings that decide its result."""

from dataclasses import replace

from apc_cli.config import Character, Configuration
from apc_cli.models.references import local_directories
from apc_cli.pipeline import Stage
from apc_cli.records import READING

SOURCE = "source text"
LLM_PROMPTS = "LLM prompts"
JUDGE, DIRECTORY = "judge:", "directory "
"""How inputs begin that are a judge of this package, or a local directory of weights."""
ROUND = "-round-"
"""Stands between the name of a stage and the number of its round, in all rounds but the last."""
SHARED = frozenset({"statements", "queries", "label-data", "train-discriminators"})
"""Stages whose result does not depend on how the character is played."""
_JUDGED = {"train-discriminators", "experience", "warm-up", "build-dpo", "grpo", "evaluation"}
"""Stages that ask judges."""
_WHO = ("character", "language")
_TEACHER = ("seed", "teacher.backend", "teacher.model")
_RETRIEVAL = ("policy.method", "policy.rag_top_k", "policy.retriever", "policy.embedder")
_PROMPT = (*_RETRIEVAL, "policy.model")
_SAMPLING = (
    "policy.quantization",
    "policy.max_new_tokens",
    "policy.temperature",
    "policy.top_p",
    "policy.min_p",
    "policy.repetition_penalty",
    "policy.batch_size",
)
_HELD_OUT = ("seed", "evaluation.held_out_queries")


def stages_for(config: Configuration) -> list[Stage]:
    """The stages of this configuration; warm-up only where it is asked for."""
    character = config.character
    own_judges = character.discriminators.source == "train"
    pair, evaluator = character.discriminators, character.evaluator
    judge_reads = ("discriminators",) if own_judges else watched(pair.relevance, pair.nli)
    base_reads = watched(pair.base_relevance, pair.base_nli)
    player_reads, retrieval_reads = _played_with(character)
    shown_reads = (*judge_reads, *retrieval_reads)
    by_llm = evaluator.backend == "openai"
    evaluator_reads = (LLM_PROMPTS,) if by_llm else watched(evaluator.relevance, evaluator.nli)
    llm_keys = ("teacher.model", "teacher.label_samples")
    label_keys = llm_keys[1:] if character.teacher.backend == "openai" else ()
    judge_keys = () if own_judges else ("discriminators.relevance", "discriminators.nli")
    start_reads = ("warm_up",) if character.sft_epochs else ()
    weighted = ("persona.weights",) if character.persona.weights else ()
    lora = ("dpo.lora_rank", "dpo.lora_alpha")
    ranking_keys = (*judge_keys, *weighted)
    sampled_reads = (*shown_reads, *player_reads)
    trained = _rounds(character, sampled_reads, player_reads, start_reads, ranking_keys, lora)
    if character.algorithm == "grpo":
        trained = [
            Stage("grpo", ("statements.jsonl", "queries.jsonl", *sampled_reads, *start_reads),
                  ("adapter",),
                  (*_WHO, *_PROMPT, *_SAMPLING, *_HELD_OUT, *ranking_keys, *lora, "dpo.guards",
                   "grpo")),
        ]  # fmt: skip
    told = (LLM_PROMPTS,) if character.teacher.backend == "openai" else ()
    extracted = () if character.persona.statements else told
    source_keys = () if character.persona.statements else _TEACHER
    stages = [
        Stage("statements", (SOURCE, *extracted), ("statements.jsonl",),
              (*_WHO, "persona.protective", *source_keys)),
        Stage("queries", ("statements.jsonl", *told), ("queries.jsonl",),
              (*_WHO, *_TEACHER, "teacher.queries_per_statement")),
        Stage("label-data", ("statements.jsonl", "queries.jsonl", *told),
              ("relevance.jsonl", "nli.jsonl"),
              (*_WHO, *_TEACHER, *label_keys, "teacher.other_queries", "teacher.other_replies")),
        Stage("train-discriminators", ("relevance.jsonl", "nli.jsonl", *base_reads),
              ("discriminators", "discriminators.json"),
              ("character", "seed", *(f"discriminators.{key}" for key in (
                  "base_relevance", "base_nli", "relevance_epochs", "nli_epochs",
                  "learning_rate", "batch_size", "test_share")))),
        Stage("experience", ("statements.jsonl", "queries.jsonl", *told, *shown_reads),
              ("experience.jsonl",),
              (*_WHO, *_TEACHER, *_RETRIEVAL, *_HELD_OUT, *judge_keys,
               "warm_up.min_statements", "warm_up.max_statements")),
        Stage("warm-up", ("experience.jsonl", "statements.jsonl", *sampled_reads), ("warm_up",),
              (*_WHO, *_PROMPT, "seed", *judge_keys, *lora, "policy.quantization",
               "policy.max_prompt_tokens",
               *(f"warm_up.{key}" for key in ("epochs", "learning_rate", "batch_size",
                                              "history_turns")))),
        *trained,
        Stage("evaluation",
              tuple(dict.fromkeys(("statements.jsonl", "queries.jsonl", "adapter", *start_reads,
                                   *sampled_reads, *evaluator_reads))),
              ("evaluation.json",),
              (*_WHO, *_PROMPT, *_SAMPLING, *ranking_keys, "seed", "evaluator",
               "evaluation", *(llm_keys if by_llm else ()))),
    ]  # fmt: skip
    warming = ("experience", "warm-up")
    return [
        replace(stage, version=READING) if stage.name.partition(ROUND)[0] in _JUDGED else stage
        for stage in stages
        if stage.name not in warming or character.sft_epochs
    ]


def _rounds(
    character: Character,
    sampled_reads: tuple[str, ...],
    player_reads: tuple[str, ...],
    start_reads: tuple[str, ...],
    ranking_keys: tuple[str, ...],
    lora: tuple[str, ...],
) -> list[Stage]:
    """Sampling and training, as often as asked; the last round's artifacts have no prefix."""
    sampling = (*_WHO, *_PROMPT, *_SAMPLING, *_HELD_OUT, *ranking_keys, "policy.max_prompt_tokens",
                *(f"dpo.{key}" for key in (
                    "max_queries", "samples_per_query", "history_turns", "pairs_per_query",
                    "min_gap", "max_length_ratio", "max_nll", "guards",
                    "flaw_penalty")))  # fmt: skip
    training = ("character", "seed", "policy.model", "policy.quantization", *lora,
                *(f"dpo.{key}" for key in (
                    "loss", "label_smoothing", "f_divergence", "beta", "epochs",
                    "held_out_share", "patience", "learning_rate", "batch_size",
                    "micro_batch_size", "sft_weight")))  # fmt: skip
    stages, start = [], start_reads
    for number in range(1, character.dpo.rounds + 1):
        last = number == character.dpo.rounds
        suffix, folder = ("", "") if last else (f"{ROUND}{number}", f"rounds/{number}/")
        replies, pairs, adapter = (
            folder + name for name in ("replies.jsonl", "pairs.jsonl", "adapter")
        )
        reads = ("statements.jsonl", "queries.jsonl", *sampled_reads, *start)
        stages += [
            Stage(f"build-dpo{suffix}", reads, (replies, pairs), sampling),
            Stage(f"dpo{suffix}", (pairs, *player_reads, *start), (adapter,), training),
        ]
        start = (adapter,)
    return stages


def _played_with(character: Character) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(inputs that are the role-play model, those that are the embedder which retrieves)."""
    policy = character.policy
    model = watched(policy.model) if policy.backend == "transformers" else ()
    return model, watched(policy.embedder) if policy.retriever == "embedding" else ()


def watched(*references: str) -> tuple[str, ...]:
    """Inputs for models whose files may change under their name: shipped judges and local ones."""
    found = []
    for name in references:
        local = [f"{DIRECTORY}{place}" for place in local_directories(name)]
        found += [name] if name.startswith(JUDGE) else local
    return tuple(dict.fromkeys(found))
