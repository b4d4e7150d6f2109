"""`apc evaluate`: which systems are compared over which queries, and the files that tell of it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from apc_cli.config import Policy
from apc_cli.conversations import conversation
from apc_cli.errors import ConfigError
from apc_cli.evaluators import evaluator_name, verdict_facts
from apc_cli.prompts import interview_questions
from apc_cli.records import JudgedReply
from apc_cli.reports.comparison import Step, comparison
from apc_cli.reports.comparison_pages import html_page, markdown_page
from apc_cli.reports.judges import judged_by
from apc_cli.steps import compare
from apc_cli.steps.compare import AskedQuery, System
from apc_cli.workshop import Workshop
from apc_cli.workspace import write_text

METHODS = ("vanilla", "eu", "lcm", "rag")
SOURCES = ("interview", "held-out", "all")


@dataclass(frozen=True)
class Plan:
    """What the command line asks for."""

    methods: Sequence[str] = ("vanilla", "lcm", "rag")
    top_k: Sequence[int] = ()
    samples: int | None = None
    queries: str = "all"
    baseline: str | None = None
    own_adapters: bool = False
    trained: bool = True

    def check(self) -> None:
        """Raises ConfigError for what can be seen to be wrong without any model."""
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise ConfigError(
                f"--methods {','.join(self.methods)}: {unknown or 'nothing'} is no method",
                f"known: {','.join(METHODS)}",
            )
        if self.queries not in SOURCES:
            raise ConfigError(
                f"--queries {self.queries} is unknown", f"known: {', '.join(SOURCES)}"
            )
        if "eu" in self.methods and not self.own_adapters:
            raise ConfigError(
                "method eu is a training of its own", "add --own-adapters, or leave eu out"
            )
        if self.own_adapters and not self.trained:
            raise ConfigError("--own-adapters and --untrained exclude each other", "choose one")
        if self.top_k and "rag" not in self.methods:
            raise ConfigError("--top-k is about rag", "add rag to --methods")

    def check_policy(self, policy: Policy) -> None:
        """Raises ConfigError for adapters that cannot be measured, or trained, with this policy."""
        if policy.sharding == "full" and self.own_adapters:
            raise ConfigError(
                "--own-adapters trains in this process alone, which policy.sharding: full cannot",
                "leave --own-adapters out, or set policy.sharding: none",
            )
        if policy.backend == "openai" and self.trained:
            raise ConfigError(
                "policy.backend: openai compares the model as it is served, no adapter of this "
                "workspace",
                "add --untrained; to measure an adapter, let the server load it",
            )


@dataclass(frozen=True)
class _Row:
    """A system, and the one whose training it goes on from."""

    system: System
    before: str | None
    top_k: int | None = None
    stage: str = ""


def compare_systems(shop: Workshop, plan: Plan) -> dict[str, Any]:
    """Runs the comparison, writes reports/evaluation.{json,md,html}, returns the report."""
    rows = list(_rows(shop, plan))
    names = [row.system.name for row in rows if row.top_k is None]
    baseline = baseline_of(shop, plan)
    queries, settings = _queries(shop, plan), shop.character.evaluation
    samples, seed = plan.samples or settings.samples_per_query, shop.character.seed
    judged = compare.run(
        shop.character.character, shop.statements(), queries,
        [row.system for row in _grouped(rows)], lambda: shop.evaluator,
        verdict_facts(shop.character), shop.character.policy, samples, seed, shop.workspace,
        shop.progress,
    )  # fmt: skip
    steps = [Step(r.before, r.system.name) for r in rows if r.before and r.top_k is None]
    figures = comparison(
        shop.character.character, {name: judged[name] for name in names}, baseline, steps,
        settings.resamples, seed,
    )  # fmt: skip
    report = figures | _frame(shop, plan, queries, samples)
    report["top_k"] = _curve(shop, rows, judged)
    report["samples_shown"] = _samples(queries, {name: judged[name] for name in names})
    shop.workspace.write_json("reports/evaluation.json", report)
    write_text(shop.workspace.path("reports/evaluation.md"), markdown_page(report))
    write_text(shop.workspace.path("reports/evaluation.html"), html_page(report))
    return report


def shops(shop: Workshop, plan: Plan) -> list[Workshop]:
    """The workshops whose adapters the plan needs, the main one first."""
    if not plan.trained:
        return []
    owners = [_owner(shop, method, plan) for method in plan.methods]
    return [shop, *(owner for owner in owners if owner is not shop)]


def baseline_of(shop: Workshop, plan: Plan) -> str:
    """The system to test against: else the configured method without training, or the first.

    Raises:
        ConfigError: the plan compares no system of that name.
    """
    names = [
        method + suffix
        for method in plan.methods
        for suffix, _ in _adapters(_owner(shop, method, plan), method, plan)
    ]
    if not plan.baseline:
        method = shop.character.policy.method
        return method if method in names else names[0]
    if plan.baseline not in names:
        raise ConfigError(
            f"--baseline '{plan.baseline}' is no system", f"there are: {', '.join(names)}"
        )
    return plan.baseline


def _rows(shop: Workshop, plan: Plan) -> Iterator[_Row]:
    """Each method at each stage of its training, then rag over k."""
    for method in plan.methods:
        yield from _stages(_owner(shop, method, plan), method, method, plan)
    for k in plan.top_k:
        yield from _stages(_owner(shop, "rag", plan), "rag", f"rag (k = {k})", plan, k)


def _owner(shop: Workshop, method: str, plan: Plan) -> Workshop:
    """Whose adapters play the method."""
    return shop.for_method(method) if plan.own_adapters else shop


def _stages(
    owner: Workshop, method: str, name: str, plan: Plan, top_k: int | None = None
) -> Iterator[_Row]:
    before = None
    for suffix, adapter in _adapters(owner, method, plan):
        yield _Row(
            System(
                name + suffix,
                owner.workspace.digest(adapter) if adapter else None,
                partial(owner.player, adapter),
                partial(conversation, owner, method=method, top_k=top_k),
            ),
            before,
            top_k,
            f"rag{suffix}",
        )
        before = name + suffix


def _adapters(owner: Workshop, method: str, plan: Plan) -> Iterator[tuple[str, str | None]]:
    """(what the name gets, the adapter's artifact) of each stage; experience upload *is* SFT."""
    sft = " + SFT" if method != "eu" else ""
    if method != "eu":
        yield "", None
    if plan.trained and owner.start:
        yield sft, owner.start
    else:
        sft = ""
    if plan.trained:
        yield f"{sft} + {owner.algorithm.upper()}", "adapter"


def _grouped(rows: Sequence[_Row]) -> list[_Row]:
    """Systems of one adapter after each other, so that each model is loaded once."""
    order = list(dict.fromkeys(row.system.adapter for row in rows))
    return sorted(rows, key=lambda row: order.index(row.system.adapter))


def _queries(shop: Workshop, plan: Plan) -> list[AskedQuery]:
    interview = [AskedQuery(q, "interview") for q in interview_questions(shop.character.language)]
    held_out = [AskedQuery(row.query, "held out") for row in shop.queries()[1]]
    found = (interview if plan.queries != "held-out" else []) + (
        held_out if plan.queries != "interview" else []
    )
    return list({asked.query: asked for asked in reversed(found)}.values())[::-1]


def _frame(
    shop: Workshop, plan: Plan, queries: Sequence[AskedQuery], samples: int
) -> dict[str, Any]:
    """Everything in the report that no reply decides."""
    character, evaluator = shop.character, evaluator_name(shop.character)
    made = {
        "role-play model": character.policy.model,
        "adapter (SHA-256)": shop.workspace.digest("adapter") or "none",
        "relevance evaluator": evaluator["relevance"],
        "NLI evaluator": evaluator["nli"],
        "seed": character.seed,
        "intervals": f"bootstrap over queries, {character.evaluation.resamples} resamples, 95%",
        "p": "sign-flip permutation test of the queries' mean ΔAPC, two-sided",
        "sampling": ", ".join(
            f"{key} {getattr(character.policy, key)}"
            for key in ("temperature", "top_p", "min_p", "repetition_penalty", "max_new_tokens")
        ),
        "versions": ", ".join(f"{n} {version(n)}" for n in ("apc-cli", "torch", "transformers")),
    }
    return {
        "character": character.character,
        "language": character.language,
        "statements": len(shop.statements()),
        "samples": samples,
        "queries": [asdict(asked) for asked in queries],
        "sources": sorted({asked.source for asked in queries}),
        "evaluator": evaluator,
        "evaluator_title": judged_by(evaluator),
        "notes": list(_notes(shop, plan)),
        "made": made,
    }


def _notes(shop: Workshop, plan: Plan) -> Iterator[str]:
    own = shop.character.policy.method
    if plan.trained and not plan.own_adapters and set(plan.methods) - {own}:
        yield (
            f"One adapter, trained with the prompts of {own}, plays all methods; --own-adapters "
            "trains one for each."
        )
    yield (
        "APC is the expected number of honoured statements; ΔAPC = active reward − passive penalty "
        "leaves out what a reply that says nothing would earn. Missed and contradicted: active and "
        "passive statements that a reply violates. NLL: per token, under the base model."
    )


def _curve(
    shop: Workshop, rows: Sequence[_Row], judged: dict[str, list[JudgedReply]]
) -> dict[str, dict[str, Any]]:
    """Stage of training → k → ΔAPC with its interval (paper figure 3)."""
    curve: dict[str, dict[str, Any]] = {}
    settings, seed = shop.character.evaluation, shop.character.seed
    for row in rows:
        if row.top_k is not None:
            name = row.system.name
            figures = comparison(
                shop.character.character, {name: judged[name]}, name, [], settings.resamples, seed
            )["systems"][name]
            kept = {key: figures[key] for key in ("delta", "delta_ci95", "words")}
            curve.setdefault(row.stage, {})[str(row.top_k)] = kept
    return curve


def _samples(
    queries: Sequence[AskedQuery], judged: dict[str, list[JudgedReply]]
) -> list[dict[str, Any]]:
    """The first reply of each system to each query."""
    first: dict[tuple[str, str], JudgedReply] = {}
    for name, replies in judged.items():
        for row in replies:
            first.setdefault((name, row.query), row)
    return [
        {
            "query": asked.query,
            "replies": {
                name: {"reply": row.reply, "delta": round(row.delta, 4)}
                for name in judged
                if (row := first.get((name, asked.query)))
            },
        }
        for asked in queries
    ]
