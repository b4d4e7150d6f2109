"""The engine behind classifiers: what it computes is what one text at a time gives."""

from concurrent.futures import ThreadPoolExecutor
from time import sleep

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from apc_cli.models.judging import packed_deberta, token_batches
from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.models.judging.networks import FlatClassifier
from apc_cli.models.judging.precision import agrees, packed_classifier, settled
from apc_cli.models.judging.scorer import Scorer
from apc_cli.models.judging.token_batches import TokenReader, batches
from apc_cli.prompts import Prompt, nli_text, relevance_text
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 600,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
DEBERTA = {
    "relative_attention": True,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pooler_hidden_size": 32,
    "max_relative_positions": -1,
}
KINDS = {
    "deberta": (DebertaV2ForSequenceClassification, DebertaV2Config, DEBERTA),
    "deberta-conv": (
        DebertaV2ForSequenceClassification, DebertaV2Config,
        DEBERTA | {"conv_kernel_size": 3, "conv_act": "gelu"},
    ),
    "bert": (BertForSequenceClassification, BertConfig, {}),
    "xlm-roberta": (XLMRobertaForSequenceClassification, XLMRobertaConfig, {}),
}  # fmt: skip
WORDS = "Mara bakes bread in Lund and sings on Fridays with two cats who fear the dogs".split()


def network(models, kind, labels=3, seed=0):
    model_class, config_class, extra = KINDS[kind]
    reader = AutoTokenizer.from_pretrained(models / "encoder")
    torch.manual_seed(seed)
    config = config_class(vocab_size=len(reader), num_labels=labels, **(SMALL | extra))
    return model_class(config).eval(), reader


def some_texts(count, seed=0):
    chosen = np.random.default_rng(seed)
    return [" ".join(chosen.choice(WORDS, chosen.integers(1, 60))) for _ in range(count)]


@torch.inference_mode()
def one_by_one(model, reader, texts):
    """float32 (texts, labels): the plain loop."""
    rows = [
        model(**reader(text, truncation=True, max_length=512, return_tensors="pt")).logits[0]
        for text in texts
    ]
    return torch.stack(rows).numpy()


@torch.inference_mode()
def engine(network, texts, budget=300):
    [(indices, logits)] = network.run([Prompt("", tuple(texts))], budget)
    assert indices == [0]
    return logits.numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_sorted_batches_are_the_plain_loop(models, kind):
    model, reader = network(models, kind)
    texts = some_texts(40)
    expected = one_by_one(model, reader, texts)
    assert expected.std(0).min() > 0.05
    np.testing.assert_allclose(engine(FlatClassifier(model, reader), texts), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_batches_are_the_plain_loop(models, kind):
    model, reader = network(models, kind)
    texts = [*some_texts(40), "x"]
    expected = one_by_one(model, reader, texts)
    reads = packed_classifier(model)
    assert (reads is None) == (kind == "deberta-conv")
    packed = FlatClassifier(model, reader, packed=reads)
    np.testing.assert_allclose(engine(packed, texts), expected, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Triton kernels need a GPU")
def test_the_kernel_attends_as_plain_products_do():
    from apc_cli.models.judging.deberta_kernel import attend

    torch.manual_seed(0)
    lengths, heads, size, reach = (1, 3, 16, 17, 40, 130, 200, 64, 5), 4, 64, packed_deberta._REACH
    bounds = np.cumsum([0, *lengths])
    offsets = torch.tensor(bounds, dtype=torch.int32, device="cuda")
    qkv = torch.randn(bounds[-1], 3 * heads * size, device="cuda").half()
    keys, queries = torch.randn(2, heads, 2 * reach, size, device="cuda").half()
    exact = (tensor.float() for tensor in (qkv, keys, queries))
    expected = packed_deberta._attend_each(*exact, offsets, max(lengths), heads)
    found = attend(qkv, keys, queries, offsets, max(lengths), heads)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0)
    firsts = attend(qkv, keys, queries, offsets, 1, heads)[offsets[:-1].long()]
    torch.testing.assert_close(firsts.float(), expected[offsets[:-1].long()], atol=0.02, rtol=0)


def test_threads_enter_what_may_be_compiled_one_at_a_time(models):
    model, reader = network(models, "deberta")
    packed, inside, most = packed_classifier(model), [], []
    plain = packed._normed

    def slowly(*args):
        inside.append(1)
        most.append(len(inside))
        sleep(0.01)
        inside.pop()
        return plain(*args)

    packed._normed = packed_deberta.one_at_a_time(slowly)
    flat = FlatClassifier(model, reader, packed=packed)

    @torch.inference_mode()
    def judge(count):
        return list(flat.run([Prompt("", tuple(some_texts(count)))], None))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(judge, (1, 2, 3)))
    assert len(most) > 6 and max(most) == 1


def test_a_text_is_read_once_and_answers_everywhere(models, monkeypatch):
    model, reader = network(models, "bert")
    seen = []
    read = TokenReader._read
    monkeypatch.setattr(TokenReader, "_read", lambda self, t: seen.extend(t) or read(self, t))
    flat = FlatClassifier(model, reader)
    prompts = [Prompt("a ", ("b", "c", "b")), Prompt("", ()), Prompt("a", (" b", " d"))]
    with torch.inference_mode():
        [(indices, logits)] = flat.run(prompts, None)
    assert indices == [0, 2] and sorted(seen) == ["a b", "a c", "a d"]
    np.testing.assert_array_equal(logits[0], logits[2])
    np.testing.assert_array_equal(logits[0], logits[3])
    expected = one_by_one(model, reader, ["a b", "a c", "a b", "a b", "a d"])
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)


def test_windows_cover_every_text_in_order(models, monkeypatch):
    monkeypatch.setattr(token_batches, "WINDOW", 16)
    reader = AutoTokenizer.from_pretrained(models / "encoder")
    for count in (1, 2, 3, 18, 30, 31, 50):
        texts = some_texts(count)
        found = list(TokenReader(reader, 512, threads=3).windows(texts))
        flat = [ids.tolist() for _, window in found for ids in window]
        assert flat == reader(texts).input_ids
        assert [start for start, _ in found] == [n for n in (0, 2, 6, 14, 30, 46) if n < count]


def test_long_texts_are_cut_as_the_tokenizer_cuts_and_counted(models):
    reader = AutoTokenizer.from_pretrained(models / "encoder")
    tokens = TokenReader(reader, 20)
    texts = ["short", " ".join(WORDS * 3), "x" * 5_000_000, "also short"]
    found = [ids.tolist() for ids in tokens.read(texts)]
    assert found[:2] == reader(texts[:2], truncation=True, max_length=20).input_ids
    assert [len(ids) for ids in found[1:3]] == [20, 20] and tokens.truncated == 2


def test_batches_keep_to_the_budget():
    lengths = [5, 100, 7, 30, 30, 8]
    assert list(batches(lengths, 60, padded=True)) == [[1], [3, 4], [5, 2, 0]]
    assert list(batches(lengths, 75, padded=False)) == [[1], [3, 4, 5, 2], [0]]


def test_a_format_that_disagrees_is_not_used(models, monkeypatch):
    from apc_cli.models.judging import precision

    model, reader = network(models, "bert")
    monkeypatch.setattr(precision, "native_formats", lambda device: (torch.bfloat16,))
    monkeypatch.setattr(precision, "TOLERANCE", 1.0)
    assert settled(model, reader, "auto").model.dtype == torch.bfloat16
    monkeypatch.setattr(precision, "TOLERANCE", 1e-9)
    assert settled(model, reader, "auto").model.dtype == torch.float32
    assert settled(model, reader, "float16").model.dtype == torch.float16
    assert not agrees(np.array([[np.nan, 0.5]]), np.array([[0.5, 0.5]]))


@pytest.mark.parametrize("kind", ["deberta", "xlm-roberta"])
def test_scores_are_the_formulas_one_pair_at_a_time(models, tmp_path, kind):
    """Against a reference that shares nothing with the engine: texts and sums are written out."""
    references = []
    for name, labels in (("relevance", RELEVANCE_LABELS), ("nli", NLI_LABELS)):
        model, reader = network(models, kind, len(labels), seed=len(labels))
        model.config.id2label = dict(enumerate(labels))
        model.save_pretrained(tmp_path / name)
        reader.save_pretrained(tmp_path / name)
        references.append((model, reader))
    scorer = Scorer.load(
        relevance=str(tmp_path / "relevance"), nli=str(tmp_path / "nli"),
        device="cpu", dtype="float32",
    )  # fmt: skip
    statements = ["Mara is a baker.", "Mara owns two cats.", "Mara fears dogs."]
    replies = [("Who are you?", "I bake."), ("Any pets?", "Dogs!"), ("Who are you?", "No.")]
    for (query, reply), score in zip(
        replies, scorer.score_all("Mara", statements, replies), strict=True
    ):
        total = reward = penalty = 0.0
        for statement in statements:
            asked = (
                f"Character: Mara\n    \nPersona Statement: {statement}\n\nUser Utterance: {query}"
                "\n\nDoes this user utterance should be responded by including the information in "
                'the given persona statement? Only answer "yes" or "no" without any explanation.'
            )
            said = (
                f"Character: Mara\n    \nPersona Statement: {statement}\n\nUser Utterance: {query}"
                f"\n\nResponse: {reply}\n\nFor this response, is the given persona entailed, "
                "neutral, or contradict to it in natural language inference? Only answer "
                '"entailed", "neutral" or "contradict" without any explanation.'
            )
            assert asked == relevance_text("Mara", statement, query)
            assert said == nli_text("Mara", statement, query, reply)
            no_yes, verdict = (
                torch.softmax(torch.tensor(one_by_one(*reference, [text])[0]), 0).tolist()
                for reference, text in zip(references, (asked, said), strict=True)
            )
            relevant, (contradicted, _, entailed) = no_yes[1], verdict
            reward += relevant * entailed
            penalty += (1 - relevant) * contradicted
            total += relevant * entailed + (1 - relevant) * (1 - contradicted)
        assert score.apc == pytest.approx(total, abs=1e-5)
        assert score.active_reward == pytest.approx(reward, abs=1e-5)
        assert score.passive_penalty == pytest.approx(penalty, abs=1e-5)
        assert score.delta == pytest.approx(reward - penalty, abs=1e-5)


def test_relevance_is_read_once_a_query_and_forgotten_between_shards(models, tmp_path):
    asked = []

    class Counting(Discriminator):
        def prompt_probabilities(self, prompts, batch_tokens=None):
            asked.append(sum(len(prompt.branches) for prompt in prompts))
            return super().prompt_probabilities(prompts, batch_tokens)

    model, reader = network(models, "bert", 2)
    nli, _ = network(models, "bert", 3)
    for one, labels in ((model, RELEVANCE_LABELS), (nli, NLI_LABELS)):
        one.config.id2label = dict(enumerate(labels))
        one.save_pretrained(tmp_path / labels[0])
        reader.save_pretrained(tmp_path / labels[0])
    relevance = Counting.load(str(tmp_path / "no"), labels=RELEVANCE_LABELS, device="cpu")
    scorer = Scorer(
        relevance, Discriminator.load(str(tmp_path / "contradicted"), labels=NLI_LABELS)
    )
    replies = [("q", "r1"), ("q", "r2"), ("p", "r1"), ("q", "r3")]
    scorer.score_all("Mara", ["a", "b", "a"], replies)
    assert asked == [4]
    scorer.score_all("Mara", ["a", "c"], replies)
    assert asked == [4, 2]
    scorer.for_shard().score_all("Mara", ["a"], replies[:2])
    assert asked == [4, 2, 1]
