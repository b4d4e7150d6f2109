"""Small real models, built from configurations, with a tokenizer trained on the wiki texts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA_LIKE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + CHATML
)
TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
}
WIKI = (
    "Mara is a baker in Lund. She is forty years old. She speaks Danish.\n\n"
    "Mara owns two cats and fears dogs. She sings in a choir.\n"
)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TQDM_DISABLE"] = "1"


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Directory with chat, gemma (chat without a system role), encoder, reward/, evaluator/."""
    import torch

    torch.set_num_threads(2)
    root = tmp_path_factory.mktemp("models")
    _chat_model(root / "chat", CHATML)
    _chat_model(root / "gemma", GEMMA_LIKE)
    _encoder(root / "encoder")
    for seed, pair in enumerate(("reward", "evaluator")):
        folder, yes_no = root / pair, ("no", "yes")
        _judge(root / "chat", "decoder", "statement-last", yes_no, folder / "relevance", seed)
        labels = ("contradicted", "neutral", "entailed")
        _judge(root / "chat", "decoder", "statement-last", labels, folder / "nli", seed)
    return root


@pytest.fixture
def project(tmp_path, models, monkeypatch):
    """A working directory with one small character, whose models are the tiny ones."""
    (tmp_path / "wiki").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "wiki" / "Mara_wiki.txt").write_text(WIKI)
    config = {
        "character": "Mara",
        "teacher": {"queries_per_statement": 2},
        "discriminators": {
            "relevance": str(models / "reward/relevance"),
            "nli": str(models / "reward/nli"),
        },
        "evaluator": {
            "relevance": str(models / "evaluator/relevance"),
            "nli": str(models / "evaluator/nli"),
        },
        "policy": {"model": str(models / "chat"), "max_new_tokens": 8, "rag_top_k": 2},
        "warm_up": {"epochs": 1},
        "dpo": {
            "rounds": 1,
            "max_queries": 4,
            "batch_size": 1,
            "micro_batch_size": 1,
            "samples_per_query": 4,
            "min_gap": 0,
            "epochs": 1,
            "lora_rank": 4,
            "lora_alpha": 4,
            "max_nll": 100,
            "max_length_ratio": 100,
        },
        "evaluation": {"samples_per_query": 1, "held_out_queries": 2, "resamples": 200},
    }
    (tmp_path / "configs" / "Mara.yaml").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def apc(capfd, monkeypatch):
    """Runs the command line in this process; returns (exit code, stdout, stderr)."""
    from apc_cli import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["apc", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else int(bool(exit.code))
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Where the first finished workspace is kept, for tests that start from one."""
    return tmp_path_factory.mktemp("built")


@pytest.fixture
def trained(project, apc, built):
    """The project after one `apc train`."""
    kept = built / "workspace"
    if kept.exists():
        shutil.copytree(kept, project / "workspace")
    else:
        code, _, err = apc("train", "--character", "Mara", "--profile", "offline")
        assert code == 0, err
        shutil.copytree(project / "workspace", kept)
    return project


@pytest.fixture
def apc_process(project):
    """Starts the command line as a process of its own."""

    def start(*arguments, **options):
        command = [sys.executable, "-m", "apc_cli.cli", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=project, **(pipes | options))

    return start


def _tokenizer(template):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    wikis = [path for path in sorted((ROOT / "wiki").glob("*.txt")) if path.name.isascii()]
    texts = [path.read_text() for path in wikis]
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>"
    )
    fast.chat_template = template
    return fast


def _chat_model(path, template):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = _tokenizer(template)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
        initializer_range=0.2,
        **TINY,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)


def _encoder(path):
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = _tokenizer(CHATML)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=0, initializer_range=0.2, **TINY)
    BertModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)


def _judge(base, architecture, style, labels, path, seed):
    """A judge with a random head: its opinions are arbitrary but certain, as a test needs them."""
    from apc_cli.models.judging.discriminator import Discriminator

    judge = Discriminator.create(
        str(base),
        labels=labels,
        architecture=architecture,
        style=style,
        device="cpu",
        lora_rank=4,
        seed=seed,
    )
    judge.save(path)
