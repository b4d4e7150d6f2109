"""A character's artifacts and models, built when they are first asked for.

Heavy libraries are imported when something needs them.
"""

from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apc_cli.config import Configuration
from apc_cli.errors import ConfigError
from apc_cli.evaluators import measured_by_llm
from apc_cli.pipeline import Pipeline
from apc_cli.progress import Progress
from apc_cli.records import Item, Query, Statement
from apc_cli.splits import hold_out_queries
from apc_cli.stages import DIRECTORY, JUDGE, LLM_PROMPTS, SHARED, SOURCE, stages_for
from apc_cli.workspace import Workspace

if TYPE_CHECKING:
    from apc_cli.models.judging.retriever import Retriever
    from apc_cli.models.judging.scorer import Scorer
    from apc_cli.models.llm.llm_scorer import LlmScorer
    from apc_cli.models.llm.served_player import ServedPlayer
    from apc_cli.models.playing.role_player import RolePlayer
    from apc_cli.models.teacher import Teacher
    from apc_cli.teaching import Teaching


class Workshop:
    """Builds models once, when they are first asked for.

    Attributes:
        strict: whether an LLM that measures stops where it has no verdict; `apc score` marks rows.
        failed: items that had no answer in the stages that ran.
    """

    def __init__(
        self,
        config: Configuration,
        workspace: Workspace,
        progress: Progress,
        folder: Path,
        main: "Workshop | None" = None,
    ) -> None:
        """`main` is the workshop whose statements, queries and judges this one uses."""
        self.config, self.character = config, config.character
        self.workspace, self.progress, self.folder = workspace, progress, folder
        self.strict, self.failed = True, 0
        self.main = main or self

    def for_method(self, method: str) -> "Workshop":
        """The same persona played by another method, trained below this one's workspace."""
        if method == self.character.policy.method:
            return self
        place = Workspace(self.workspace.path("methods"), method)
        config = self.config.with_values({"policy": {"method": method}}, f"--methods {method}")
        return Workshop(config, place, self.progress, self.folder, main=self)

    @property
    def source(self) -> Path:
        """The wiki text, or the statements file that takes its place."""
        persona, name = self.character.persona, self.character.character
        given = persona.statements or persona.wiki or f"wiki/{name}_wiki.txt"
        return self.folder / given

    def pipeline(self) -> Pipeline:
        """The character's pipeline over this workspace."""
        from apc_cli.models.references import expanded, shipped_judge

        stages = stages_for(self.config)
        reads = {name for stage in stages for name in stage.reads}
        prompts = Path(__file__).parent / "prompts" / f"{self.character.language}.yaml"
        sources = {SOURCE: self.source, LLM_PROMPTS: prompts}
        sources |= {name: shipped_judge(name) for name in reads if name.startswith(JUDGE)}
        local = {name: name.removeprefix(DIRECTORY) for name in reads if name.startswith(DIRECTORY)}
        checkpoints = {name: expanded(place) for name, place in local.items()}
        if self.main is not self:
            common = [stage for stage in stages if stage.name in SHARED]
            sources |= {n: self.main.workspace.path(n) for stage in common for n in stage.writes}
            stages = [stage for stage in stages if stage not in common]
        return Pipeline(stages, self.config, self.workspace, sources, checkpoints)

    def cost(self) -> dict[str, Any]:
        """What this run has asked of an LLM so far; empty where it asks none."""
        return self.teaching.cost_since() if self.uses_llm else {}

    def estimate(self, stages: Collection[str]) -> list[str]:
        """What these stages will ask of the LLM and what that will cost, in lines; none offline."""
        if not self.uses_llm:
            return []
        from apc_cli.estimating import estimate_lines

        return estimate_lines(self.character, self.source, self.main.workspace, stages)

    def scoring_estimate(self, rows: Iterable[Item]) -> list[str]:
        """What scoring these rows will ask of the LLM, in lines; none with discriminators."""
        if not measured_by_llm(self.character):
            return []
        from apc_cli.estimating import scoring_lines

        return scoring_lines(self.character, self.main.workspace, rows)

    @property
    def uses_llm(self) -> bool:
        """Whether teacher or evaluator is an LLM."""
        return self.character.teacher.backend == "openai" or measured_by_llm(self.character)

    @cached_property
    def teaching(self) -> "Teaching":
        """The LLM behind teacher and evaluator."""
        if self.main is not self:
            return self.main.teaching
        from apc_cli.teaching import Teaching

        return Teaching(self.character, self.workspace, self.progress)

    @cached_property
    def teacher(self) -> "Teacher":
        """The configured teacher."""
        if self.main is not self:
            return self.main.teacher
        if self.character.teacher.backend == "openai":
            return self.teaching.teacher
        if self.character.language != "en":
            raise ConfigError(
                f"the rule-based teacher knows no {self.character.language}",
                "set teacher.backend: openai, with OPENAI_API_KEY or OPENAI_BASE_URL",
            )
        from apc_cli.models.rules.rule_teacher import RuleTeacher

        return RuleTeacher(self.character.seed)

    @cached_property
    def reward(self) -> "Scorer":
        """The pair that retrieves statements and ranks replies."""
        if self.main is not self:
            return self.main.reward
        settings = self.character.discriminators
        if settings.source == "pretrained":
            return self._scorer(settings.relevance, settings.nli)
        own = self.workspace.path("discriminators")
        return self._scorer(str(own / "relevance"), str(own / "nli"))

    @cached_property
    def evaluator(self) -> "Scorer | LlmScorer":
        """The pair that measures, or the LLM that does."""
        if self.main is not self:
            return self.main.evaluator
        if measured_by_llm(self.character):
            return self.teaching.evaluator(strict=self.strict)
        pair = self.character.evaluator
        return self._scorer(pair.relevance, pair.nli)

    def statements(self) -> list[str]:
        """The persona statements."""
        rows = self.main.workspace.read_rows("statements.jsonl", Statement)
        return [row.statement for row in rows]

    def queries(self) -> tuple[list[Query], list[Query]]:
        """(queries to train on, held-out queries)."""
        rows = self.main.workspace.read_rows("queries.jsonl", Query)
        return hold_out_queries(
            rows, self.character.evaluation.held_out_queries, self.character.seed
        )

    @cached_property
    def retriever(self) -> "Retriever":
        """Over the persona's statements; asked for only after they were made."""
        if self.main is not self:
            return self.main.retriever
        from apc_cli.models.judging import retriever

        policy = self.character.policy
        if policy.retriever == "embedding":
            from apc_cli.models.judging.embedder import Embedder

            embedder = Embedder(policy.embedder, self.character.device)
            return retriever.by_embedding(embedder, self.statements())
        name = self.character.character
        return retriever.by_discriminator(self.reward, name, self.statements())

    @cached_property
    def served_player(self) -> "ServedPlayer":
        """The role-play model behind a server."""
        from apc_cli.models.llm.journal import Journal
        from apc_cli.models.llm.served_player import JOURNAL, ServedPlayer

        self.workspace.create()
        journal = Journal(self.workspace.path(JOURNAL))
        return ServedPlayer(self.character.policy, journal, self.progress.say)

    def player(
        self, adapter: str | None = None, *, trainable: bool = False
    ) -> "RolePlayer | ServedPlayer":
        """The role-play model with an adapter of the workspace, or as it is.

        With `trainable` and `policy.sharding: full`, all processes that train have to ask for it.

        Raises:
            ConfigError: it cannot be loaded, or is behind a server and an adapter is wanted on it.
        """
        from apc_cli.models.playing.role_player import RolePlayer

        if self.character.policy.backend == "openai":
            if adapter or trainable:
                raise ConfigError(
                    "an adapter can be put on a model with weights only, not on one that "
                    "policy.backend: openai asks",
                    "let the server load the adapter, or set policy.backend: transformers",
                )
            return self.served_player
        policy = self.character.policy
        apart = "sharded" if trainable else "spread"
        return RolePlayer.load(
            policy.model,
            adapter=self.workspace.path(adapter) if adapter else None,
            quantization=policy.quantization,
            device=self.character.device,
            trainable=trainable,
            placement=apart if policy.sharding == "full" else "whole",
        )

    def plain_player(self, adapter: str, dtype: str) -> "RolePlayer":
        """The role-play model with an adapter, unquantised, as others will run it."""
        from apc_cli.models.playing.role_player import RolePlayer

        return RolePlayer.load(
            self.character.policy.model,
            adapter=self.workspace.path(adapter),
            device=self.character.device,
            dtype=dtype,
        )

    @property
    def algorithm(self) -> str:
        """What trains the adapter last: also the name of its stage."""
        return self.character.algorithm

    @property
    def start(self) -> str | None:
        """The adapter that DPO starts from."""
        return "warm_up" if self.character.sft_epochs else None

    def _scorer(self, relevance: str, nli: str) -> "Scorer":
        from apc_cli.models.judging.scorer import Scorer

        return Scorer.load(
            relevance=relevance,
            nli=nli,
            language=self.character.language,
            device=self.character.device,
            cached=True,
            weights=self.weights,
        )

    @cached_property
    def weights(self) -> dict[str, float]:
        """How much statements count; tells of those that the persona does not have."""
        weights = self.character.persona.weights
        if weights and self.workspace.path("statements.jsonl").is_file():
            for unknown in sorted(weights.keys() - set(self.statements())):
                self.progress.say(f"warning: persona.weights names no statement: {unknown!r}")
        return weights


def require(path: Path, what: str, command: str) -> None:
    """An artifact that a command needs but does not build."""
    if not path.exists():
        raise ConfigError(f"{what} is not there yet ({path})", f"run: {command}")
