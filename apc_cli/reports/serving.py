"""How an exported character is served: command lines for vLLM, llama.cpp and Ollama."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apc_cli.config import Policy

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for --max-lora-rank (0.14 to 0.22)."""

_OLLAMA_READS = ("LlamaForCausalLM", "MistralForCausalLM", "GemmaForCausalLM")
"""Architectures whose safetensors Ollama imports by itself, models and adapters."""


@dataclass(frozen=True)
class Exported:
    """What was exported: `base` is where its base model is, `rank` is None once merged."""

    name: str
    directory: Path
    base: str
    rank: int | None
    architecture: str


def served_name(character: str) -> str:
    """A name that servers and shells take."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in character.lower())
    return plain.strip("-") or "character"


def serving_lines(made: Exported) -> list[tuple[str, list[str]]]:
    """(server, its lines), remarks as comments."""
    return [("vLLM", _vllm(made)), ("llama.cpp", _llama_cpp(made)), ("Ollama", _ollama(made))]


def _vllm(made: Exported) -> list[str]:
    where = shlex.quote(str(made.directory))
    if made.rank is None:
        return [f"vllm serve {where} --served-model-name {made.name}"]
    rank = next((allowed for allowed in _VLLM_RANKS if allowed >= made.rank), None)
    if rank is None:
        return [f"# vLLM takes no adapter of rank {made.rank}: export without --adapter"]
    return [
        f"vllm serve {shlex.quote(made.base)} --enable-lora "
        f"--lora-modules {made.name}={where} --max-lora-rank {rank}"
    ]


def _llama_cpp(made: Exported) -> list[str]:
    where, base = shlex.quote(str(made.directory)), shlex.quote(made.base)
    if made.rank is None:
        return [
            f"python convert_hf_to_gguf.py {where} --outfile {made.name}.gguf --outtype bf16",
            f"llama-server -m {made.name}.gguf --jinja",
        ]
    local = "" if Path(made.base).is_dir() else "  # --base is a directory: download it first"
    return [
        f"python convert_hf_to_gguf.py {base} --outfile base.gguf --outtype bf16{local}",
        f"python convert_lora_to_gguf.py {where} --base {base} --outfile {made.name}-lora.gguf",
        f"llama-server -m base.gguf --lora {made.name}-lora.gguf --jinja",
    ]


def _ollama(made: Exported) -> list[str]:
    where = shlex.quote(str(made.directory / "Modelfile"))
    lines = [f"ollama create {made.name} -f {where}"]
    if made.architecture not in _OLLAMA_READS:
        lines.insert(
            0,
            f"# Ollama imports no {made.architecture} by itself: convert it with the llama.cpp "
            "lines and put the .gguf file after FROM in the Modelfile",
        )
    if made.rank is not None:
        lines.insert(
            0,
            "# FROM in the Modelfile must be the very base model; an adapter on another one, or on "
            "a quantised copy, gives erratic replies: the merged export is safer",
        )
    lines.append("# Ollama writes its own template in place of chat_template.jinja: compare them")
    return lines


def modelfile(made: Exported, policy: Policy, system: str, remarks: Sequence[str]) -> str:
    """An Ollama Modelfile with the sampling and the system text of the training."""
    source = "." if made.rank is None else made.base
    values = {
        "temperature": policy.temperature,
        "top_p": policy.top_p,
        "min_p": policy.min_p,
        "top_k": 0,
        "repeat_penalty": policy.repetition_penalty,
        "num_predict": policy.max_new_tokens,
    }
    lines = [f"# {remark}" for remark in remarks]
    lines.append(f"FROM {source}")
    if made.rank is not None:
        lines.append("ADAPTER .")
    lines += [f"PARAMETER {key} {value}" for key, value in values.items()]
    quoted = system.replace('"""', "'''")
    return "\n".join([*lines, f'SYSTEM """{quoted}"""']) + "\n"
