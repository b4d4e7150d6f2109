"""Which replies make a preference pair, and why others do not."""

from collections import Counter

import pytest

from apc_cli.config import Dpo
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.records import SampledReplies
from apc_cli.steps.build_dpo import choose_pairs

PROMPT = [{"role": "system", "content": "F."}, {"role": "user", "content": "q"}]
PLAIN = Dpo(min_gap=0.2)


def chosen(replies, settings=PLAIN, player=None):
    """((chosen, rejected) of the one pair or None, what was counted)."""
    pairs, dropped = all_chosen(replies, settings, player)
    assert len(pairs) <= 1
    return (pairs[0] if pairs else None), dropped


def all_chosen(replies, settings, player=None):
    """([(chosen, rejected), …], what was counted)."""
    item = SampledReplies("q", PROMPT, list(replies), list(replies.values()))
    dropped = Counter()
    found = []
    for pair in choose_pairs("Mara", item, player, settings, dropped):
        assert pair.prompt == PROMPT
        assert pair.score_chosen == replies[pair.chosen[0]["content"]]
        assert pair.score_rejected == replies[pair.rejected[0]["content"]]
        assert pair.chosen[0]["role"] == pair.rejected[0]["role"] == "assistant"
        found.append((pair.chosen[0]["content"], pair.rejected[0]["content"]))
    return found, dropped


def test_best_against_worst():
    replies = {"I am c.": 1.0, "I am a.": 3.0, "I am b.": 2.0}
    assert chosen(replies) == (("I am a.", "I am c."), {})


def test_several_pairs_share_no_reply_and_stop_at_the_gap():
    scores = {"a": 6, "b": 5, "c": 4, "d": 3.5, "e": 2, "f": 1}
    replies = {f"I am {name}.": score for name, score in scores.items()}
    two = [("I am a.", "I am f."), ("I am b.", "I am e.")]
    assert all_chosen(replies, Dpo(pairs_per_query=2)) == (two, {})
    assert all_chosen(replies, Dpo(pairs_per_query=9, min_gap=1)) == (two, {})
    three = [*two, ("I am c.", "I am d.")]
    assert all_chosen(replies, Dpo(pairs_per_query=9, min_gap=0.2)) == (three, {})


def test_the_gap_must_be_exceeded():
    assert chosen({"I am a.": 1.5, "I am b.": 1.0}, Dpo(min_gap=0.5)) == (
        None,
        {"gap too small": 1},
    )
    assert chosen({"I am a.": 1.5625, "I am b.": 1.0}, Dpo(min_gap=0.5))[0]


def test_equal_scores_make_no_pair_even_without_a_gap():
    assert chosen({"I am a.": 1.0, "I am b.": 1.0}, Dpo(min_gap=0)) == (None, {"gap too small": 1})


def test_ties_do_not_depend_on_the_order_of_sampling():
    replies = {"I am a.": 2.0, "I am b.": 2.0, "I am y.": 1.0, "I am z.": 1.0}
    backwards = dict(reversed(replies.items()))
    assert chosen(replies)[0] == chosen(backwards)[0] == ("I am a.", "I am z.")


def test_a_flawed_reply_is_never_chosen_but_may_be_rejected():
    replies = {"Mara bakes bread.": 3.0, "I bake bread.": 2.0, "As an AI I bake.": 1.0}
    assert chosen(replies)[0] == ("I bake bread.", "As an AI I bake.")
    flawed = {"Mara bakes bread.": 3.0, "Yes.": 1.0, "": 0.5}
    assert chosen(flawed) == (None, {"no sound reply": 1})


def test_guards_choose_which_flaws_count():
    replies = {"I can't assist with that request.": 3.0, "I bake bread.": 2.0, "I am b.": 1.0}
    assert chosen(replies)[0] == ("I bake bread.", "I am b.")
    [first, *_] = replies
    assert chosen(replies, Dpo(guards=("empty",)))[0] == (first, "I am b.")
    leak = "I speak as Mara, in the first person, in one to three short sentences."
    assert chosen({leak: 3.0, "I bake.": 2.0, "I am b.": 1.0})[0] == ("I bake.", "I am b.")


def test_a_flawed_reply_is_rejected_without_the_gap_if_it_scores_lower():
    replies = {"I bake.": 2.0, "I bake it. I bake it now. I bake it now.": 1.9, "I am b.": 1.85}
    assert chosen(replies)[0] == ("I bake.", "I bake it. I bake it now. I bake it now.")
    assert chosen({"I bake.": 2.0, "As an AI I bake.": 2.0}) == (None, {"gap too small": 1})


def test_a_penalty_has_flawed_replies_rejected_first_whatever_their_score():
    replies = {"I bakes bread.": 3.0, "I bake bread.": 2.0, "I am b.": 1.0}
    assert chosen(replies)[0] == ("I bake bread.", "I am b.")
    item = SampledReplies("q", PROMPT, list(replies), list(replies.values()), [False] * 3)
    [pair] = choose_pairs("Mara", item, None, Dpo(flaw_penalty=2.5), Counter())
    assert pair.rejected[0]["content"] == "I bakes bread."
    assert (pair.score_chosen, pair.score_rejected) == (2.0, 3.0)
    barely = Dpo(flaw_penalty=1.0, pairs_per_query=2)
    assert all_chosen(replies, barely) == ([("I bake bread.", "I am b.")], {})


def test_a_best_reply_without_a_match_leaves_room_for_the_next():
    replies = {"I bake a loaf and you eat it now.": 3.0, "I am b.": 2.0, "I am c.": 1.0}
    found = all_chosen(replies, Dpo(pairs_per_query=2, max_length_ratio=1.2))
    assert found == ([("I am b.", "I am c.")], {})


def test_a_reply_that_was_cut_off_is_rejected_not_chosen():
    replies, scores = ["I bake and I", "I bake.", "I am b."], [3.0, 2.0, 1.9]
    item = SampledReplies("q", PROMPT, replies, scores, [True, False, False])
    assert choose_pairs("Mara", item, None, PLAIN, Counter()) == []
    scores[0] = 1.95
    item = SampledReplies("q", PROMPT, replies, scores, [True, False, False])
    [pair] = choose_pairs("Mara", item, None, PLAIN, Counter())
    assert pair.chosen[0]["content"] == "I bake."
    assert pair.rejected[0]["content"] == "I bake and I"
    item = SampledReplies("q", PROMPT, replies, [3.0, 2.0, 1.9], [True] * 3)
    [pair] = choose_pairs("Mara", item, None, PLAIN, Counter())
    assert pair.chosen[0]["content"] == "I bake and I"


def test_an_empty_reply_is_not_rejected_either():
    assert chosen({"I bake bread.": 2.0, "": 0.0, "I fear dogs.": 1.0})[0] == (
        "I bake bread.",
        "I fear dogs.",
    )


def test_lengths_must_be_alike():
    # (4 + 1) words against (9 + 1): ratio 2 exactly
    replies = {"I bake brown bread.": 2.0, "I bake a loaf and you eat it now.": 1.0}
    assert chosen(replies, Dpo(min_gap=0.2, max_length_ratio=2))[0]
    assert chosen(replies, Dpo(min_gap=0.2, max_length_ratio=1.9)) == (
        None,
        {"lengths too different": 1},
    )
    replies["I never bake bread."] = 1.5
    assert chosen(replies, Dpo(min_gap=0.2, max_length_ratio=1.9))[0] == (
        "I bake brown bread.",
        "I never bake bread.",
    )


def test_the_chosen_reply_must_be_fluent_for_the_base_model(models):
    player = RolePlayer.load(str(models / "chat"), device="cpu", dtype="float32")
    replies = {"I bake bread.": 2.0, "I fear dogs.": 1.0}
    [nll] = player.negative_log_likelihood([PROMPT], ["I bake bread."])
    assert nll > 0.1
    assert chosen(replies, Dpo(max_nll=nll + 0.01), player)[0] == ("I bake bread.", "I fear dogs.")
    assert chosen(replies, Dpo(max_nll=nll - 0.01), player) == (
        None,
        {"chosen reply not fluent": 1},
    )


@pytest.mark.parametrize("count", [1, 3])
def test_counts_add_up(count):
    dropped = Counter()
    item = SampledReplies("q", PROMPT, ["I am a.", "I am b."], [1.0, 1.0])
    for _ in range(count):
        assert choose_pairs("Mara", item, None, PLAIN, dropped) == []
    assert dropped == {"gap too small": count}
