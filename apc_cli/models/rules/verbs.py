"""What a word can be: a finite verb, its base form, a noun; from lemminflect and short lists."""

from functools import cache

from lemminflect import getAllLemmas, getAllLemmasOOV, getInflection

from apc_cli.models.rules.banks import bank, words
from apc_cli.models.rules.tokens import Token

MODALS = frozenset(
    "can could will would shall should may might must can't cannot couldn't won't wouldn't "
    "shouldn't mustn't mightn't".split()
)
PRESENT_AUX = {
    "is": "am",
    "isn't": "am not",
    "has": "have",
    "hasn't": "haven't",
    "does": "do",
    "doesn't": "don't",
}
SECOND_AUX = {"is": "are", "isn't": "aren't", "was": "were", "wasn't": "weren't"}
PAST_AUX = frozenset("was wasn't were weren't had hadn't did didn't".split())
PLURAL_AUX = frozenset("are aren't were weren't have haven't do don't".split())
BE_HAVE = frozenset("is isn't was wasn't are were has hasn't had hadn't have be been".split())


@cache
def parts_of_speech(low: str) -> frozenset[str]:
    return frozenset(getAllLemmas(low))


def is_known(low: str) -> bool:
    return bool(parts_of_speech(low)) or low in words("function_words")


@cache
def base_form(low: str) -> str:
    """The infinitive of a verb form: "teaches" gives "teach"."""
    if low in bank("lexicon")["verb_bases"]:
        return bank("lexicon")["verb_bases"][low]
    lemmas = getAllLemmas(low, "VERB").get("VERB") or getAllLemmasOOV(low, "VERB").get("VERB")
    return lemmas[0] if lemmas else low


@cache
def inflect(base: str, tag: str) -> str:
    """The form of an infinitive for a Penn tag: ("teach", "VBD") gives "taught"."""
    forms = getInflection(base, tag)
    return forms[0] if forms else base


@cache
def is_third_person(low: str) -> bool:
    """Can the word be a present verb in the third person ("teaches", "plays")?"""
    if low in PRESENT_AUX:
        return True
    if not low.endswith("s") or low.endswith("ss") or low in words("never_verbs"):
        return False
    if "VERB" in parts_of_speech(low):
        return low in getInflection(base_form(low), "VBZ") or base_form(low) + "s" == low
    head, _, tail = low.rpartition("-")
    return bool(head) and is_third_person(tail)


@cache
def is_past(low: str) -> bool:
    """Can the word be a verb in the simple past ("taught", "played")?"""
    if low in PAST_AUX:
        return True
    if "VERB" not in parts_of_speech(low) or low in words("never_verbs"):
        return False
    base = base_form(low)
    return base != low and low in getInflection(base, "VBD")


@cache
def is_clear_past(low: str) -> bool:
    """Is it a past form that no participle shares ("wrote"), or of a verb with no passive?"""
    if not is_past(low):
        return False
    base = base_form(low)
    return low not in getInflection(base, "VBN") or base in words("intransitive_verbs")


def is_auxiliary(low: str) -> bool:
    return low in PRESENT_AUX or low in PAST_AUX or low in MODALS or low in PLURAL_AUX


def is_finite(low: str) -> bool:
    return is_auxiliary(low) or is_third_person(low) or is_past(low)


def is_clear_finite(low: str) -> bool:
    """Is it a finite verb wherever it stands, never a noun?"""
    if is_auxiliary(low):
        return True
    nominal = parts_of_speech(low) & {"NOUN", "ADJ"}
    return is_third_person(low) and (not nominal or low in words("verby"))


@cache
def is_adverb(low: str) -> bool:
    if low in words("adverbs"):
        return True
    return low.endswith("ly") and "ADV" in parts_of_speech(low) and low not in words("not_adverbs")


def is_participle(low: str) -> bool:
    """Can the word be a past participle?"""
    if "VERB" not in parts_of_speech(low):
        return False
    return low in getInflection(base_form(low), "VBN")


@cache
def is_base_verb(low: str) -> bool:
    """Is it an infinitive and never a noun ("describe")?"""
    kinds = parts_of_speech(low)
    return "VERB" in kinds and not kinds & {"NOUN", "ADJ"} and base_form(low) == low


def is_noun(token: Token) -> bool:
    return "NOUN" in parts_of_speech(token.low) or token.text[:1].isupper()


@cache
def is_plural_noun(low: str) -> bool:
    if low in words("plural_nouns"):
        return True
    lemmas = getAllLemmas(low, "NOUN").get("NOUN", ())
    return bool(lemmas) and low not in lemmas and low.endswith(("s", "men", "ren", "eet", "eeth"))
