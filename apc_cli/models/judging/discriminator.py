"""A discriminator: the probability of each label, for texts that a prompt style makes.

A checkpoint is a plain sequence classification model of transformers (the released ones), or a
directory with a `judge.json` beside a LoRA adapter. Only safetensors are read; no code of a
checkpoint is ever run.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from apc_cli.errors import ConfigError, DataError
from apc_cli.models.adapters import add_lora, base_reference, load_adapter
from apc_cli.models.devices import in_format, pick_device, pick_dtype
from apc_cli.models.judging import cpu_attention, lean_llama, prepacked
from apc_cli.models.judging.networks import BranchingDecoder, FlatClassifier, Network
from apc_cli.models.judging.precision import settled
from apc_cli.models.references import digest, resolve
from apc_cli.prompts import InputStyle, Prompt
from apc_cli.records import READING, SURE_FROM

Architecture = Literal["classifier", "decoder"]
METADATA = "judge.json"


@dataclass(frozen=True)
class Description:
    """What `judge.json` records: how to build the inputs and how to read the outputs.

    A verdict is sure when its likeliest label has at least the probability `sure_from`.
    """

    labels: tuple[str, ...]
    style: InputStyle = "released"
    architecture: Architecture = "classifier"
    temperature: float = 1.0
    languages: tuple[str, ...] = ()
    sure_from: float = SURE_FROM


class Discriminator:
    """P(label) for prompts or plain texts."""

    def __init__(
        self, network: Network, description: Description, base: str, source: str = ""
    ) -> None:
        """`source` is where the trained weights came from: a directory or a hub id."""
        self.network, self.description, self.base = network, description, base
        self._source = source

    @cached_property
    def fingerprint(self) -> str:
        """The weights, by their content or their commit on the hub, and the number format."""
        commit = getattr(self.network.model.config, "_commit_hash", None)
        weights = digest(Path(self._source)) if Path(self._source).is_dir() else commit
        form = str(self.network.model.dtype).removeprefix("torch.")
        return f"{self.base} {weights} {form} {READING}"

    @property
    def style(self) -> InputStyle:
        """Which input text the discriminator was trained on (see apc_cli.prompts)."""
        return self.description.style

    @classmethod
    def load(
        cls,
        model: str,
        *,
        labels: tuple[str, ...],
        device: str = "auto",
        dtype: str = "auto",
        trainable: bool = False,
    ) -> "Discriminator":
        """A trained discriminator: hub id, directory, `package:NAME` or `judge:PAIR/KIND`.

        Raises:
            DataError: not safetensors, no trained head, or other labels than `labels`.
        """
        where = resolve(model)
        directory = Path(where)
        if (directory / METADATA).is_file():
            description = _read_description(directory, labels)
            if description.architecture != "classifier":
                return _load_adapted(cls, directory, description, device, dtype, trainable)
        else:
            description = Description(labels=labels)
        exact, tokenizer = _load_classifier(where, labels, device), _tokenizer(where)
        if trainable:
            return cls(FlatClassifier(exact, tokenizer), description, model, where)
        return cls(settled(exact, tokenizer, dtype), description, model, where)

    @classmethod
    def create(
        cls,
        base: str,
        *,
        labels: tuple[str, ...],
        architecture: Architecture,
        style: InputStyle,
        device: str = "auto",
        lora_rank: int = 16,
        seed: int = 0,
        languages: tuple[str, ...] = (),
    ) -> "Discriminator":
        """An untrained discriminator on a pretrained base model, ready for training."""
        torch.manual_seed(seed)
        description = Description(labels, style, architecture, languages=languages)
        model = _base_model(resolve(base), description, pick_device(device), torch.float32)
        tokenizer = _tokenizer(resolve(base))
        if architecture == "classifier":
            return cls(FlatClassifier(model, tokenizer), description, base)
        adapted = add_lora(
            model,
            rank=lora_rank,
            alpha=2 * lora_rank,
            task="SEQ_CLS",
        )
        return cls(BranchingDecoder(adapted, tokenizer), description, base)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (texts, labels) for whole texts."""
        found = self.prompt_probabilities([Prompt("", (text,)) for text in texts])
        return np.concatenate(found) if found else np.zeros((0, self.width), np.float32)

    @property
    def trains_in_bf16(self) -> bool:
        """Adapters train under bfloat16 autocast; full encoders in float32 (DeBERTa needs it)."""
        if self.description.architecture != "decoder":
            return False
        return pick_dtype("auto", self.network.model.device) == torch.bfloat16

    @property
    def reads_together(self) -> bool:
        """Whether prompts asked in one call share batches, which is how a classifier is fast.

        The shipped decoders read one prompt's statements as one row, alone as fast as in company.
        """
        return self.description.architecture == "classifier"

    @property
    def reads_apart(self) -> bool:
        """Whether each prompt is read by itself on its share of a CPU's cores."""
        return self.network.reads_apart

    @property
    def width(self) -> int:
        """How many labels there are."""
        return len(self.description.labels)

    @torch.inference_mode()
    def prompt_probabilities(
        self, prompts: Sequence[Prompt], batch_tokens: int | None = None
    ) -> list[np.ndarray]:
        """For each prompt float32 (branches, labels); batches hold prompts of like length."""
        found: list[np.ndarray] = [np.zeros((0, self.width), np.float32)] * len(prompts)
        for batch, logits in self.network.run(prompts, batch_tokens):
            rows = torch.softmax(logits / self.description.temperature, dim=-1).cpu().numpy()
            ends = np.cumsum([len(prompts[i].branches) for i in batch])[:-1]
            for index, part in zip(batch, np.split(rows, ends), strict=True):
                found[index] = part
        return found

    def calibrated(self, temperature: float, sure_from: float | None = None) -> "Discriminator":
        """The same network with its logits divided by `temperature`, and another `sure_from`."""
        band = self.description.sure_from if sure_from is None else sure_from
        description = replace(self.description, temperature=temperature, sure_from=band)
        return Discriminator(self.network, description, self.base)

    def save(self, directory: Path, *, dtype: torch.dtype | None = None) -> None:
        """Writes weights and `judge.json`; `load` reads them back."""
        directory.mkdir(parents=True, exist_ok=True)
        self.network.save(directory, self.base, dtype)
        text = json.dumps(asdict(self.description), indent=1) + "\n"
        (directory / METADATA).write_text(text, encoding="utf-8")


def _read_description(directory: Path, labels: tuple[str, ...]) -> Description:
    try:
        fields = json.loads((directory / METADATA).read_text(encoding="utf-8"))
        lists = {key: tuple(fields.get(key, ())) for key in ("labels", "languages")}
        description = Description(**(fields | lists))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{directory / METADATA} cannot be read: {error}") from error
    for key, known in (("architecture", Architecture), ("style", InputStyle)):
        if getattr(description, key) not in get_args(known):
            given = getattr(description, key)
            raise DataError(
                f"{directory / METADATA}: {key} '{given}' is unknown",
                "it was made by another version of apc: train it again",
            )
    if description.labels != labels:
        raise DataError(f"{directory} has labels {description.labels}, expected {labels}")
    return description


def _load_adapted(
    cls: type[Discriminator],
    directory: Path,
    description: Description,
    device: str,
    dtype: str,
    trainable: bool,
) -> Discriminator:
    base = base_reference(directory)
    where = resolve(base)
    target = pick_device(device)
    model = _base_model(where, description, target, torch.float32)
    adapted = load_adapter(model, directory, trainable=trainable)
    if trainable:
        network = BranchingDecoder(adapted, _tokenizer(where))
    else:
        merged = adapted.merge_and_unload().eval()
        network = _for_reading(merged, _tokenizer(where), pick_dtype(dtype, target))
    return cls(network, description, base, str(directory))


def _for_reading(model: Any, tokenizer: Any, dtype: torch.dtype) -> BranchingDecoder:
    """A merged float32 decoder in the format, with what makes it faster on a CPU."""
    if not prepacked.is_possible(model.device, dtype):
        return BranchingDecoder(in_format(model, dtype), tokenizer)
    if lean_llama.can_read(model.config):
        lean = lean_llama.LeanLlama(model)
        return BranchingDecoder(in_format(model, dtype), tokenizer, lean=lean)
    cpu_attention.use_in(in_format(model, dtype))
    prepacked.prepack(model.base_model)
    return BranchingDecoder(model, tokenizer)


def _base_model(
    where: str, description: Description, device: torch.device, dtype: torch.dtype
) -> Any:
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": False, "use_safetensors": True}
    if description.architecture == "decoder":
        options["attn_implementation"] = "sdpa"  # takes the boolean mask of branching.py
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            where, num_labels=len(description.labels), **options
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the base model {where}: {_first_line(error)}") from error
    model.config.id2label = dict(enumerate(description.labels))
    model.config.label2id = {label: i for i, label in enumerate(description.labels)}
    return model.to(device)


def _load_classifier(where: str, labels: tuple[str, ...], device: str) -> Any:
    """The checkpoint in float32, which training needs and other formats are measured by."""
    target = pick_device(device)
    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=False)
        _check_labels(where, config, labels)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            where,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        away = None if Path(where).is_dir() else "check its name; --profile offline needs no hub"
        what = f"cannot load the discriminator {where}: {_first_line(error)}"
        raise ConfigError(what, away) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])[0]
        raise DataError(f"{where} is not a trained classifier: it has no {missing}")
    return model.to(target).eval()


def _check_labels(where: str, config: Any, labels: tuple[str, ...]) -> None:
    names = [str(config.id2label[i]) for i in sorted(config.id2label)]
    if len(names) != len(labels):
        raise DataError(f"{where} has {len(names)} labels, expected {len(labels)}: {labels}")
    unnamed = all(name == f"LABEL_{i}" for i, name in enumerate(names))
    if not unnamed and tuple(names) != labels:
        raise DataError(f"{where} has its labels in another order: {names}, expected {labels}")


def _tokenizer(where: str) -> Any:
    return AutoTokenizer.from_pretrained(where, trust_remote_code=False)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
