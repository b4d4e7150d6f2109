"""Where the assistant shows through the character: AI talk, refusals, leaked prompts.

English, Japanese and Chinese. A character may well be sorry or unable; what counts as a refusal is
the wording of assistants about requests.
"""

import re
from collections.abc import Iterator
from functools import cache

from apc_cli.prompts import INSTRUCTION_LANGUAGES, role_play_instruction

_AI = re.compile(
    r"\b(?:as an? (?:ai|language model)|i(?:'m| am) an? (?:ai|language model))\b"
    r"|(?:AI|人工知能|言語モデル|チャットボット)(?:として|なので|ですので|ですから|だから|です)"
    r"|(?:作为|作為|我[只就]?是)(?:一[个個名款])?(?:AI|人工智能|人工智慧|[语語]言模型|聊天机器人)",
    re.IGNORECASE,
)

_REFUSAL = re.compile(
    r"\b(?:can(?:no|')t|could not|am (?:not able|unable) to|won't) (?:\w+ )?"
    r"(?:assist|help(?: you)?|comply|fulfil+|engage|respond|answer) (?:with |to |in )?"
    r"(?:that|this|your|such)(?: kind of| an?)?(?: requests?| questions?| topics?|[.!,]|$)"
    r"|\b(?:content policy|my (?:guidelines|programming|training data))\b"
    r"|(?:お手伝い|お答え|回答|ご対応|お応え)(?:することは?|は)?(?:でき(?:ません|かねます)|いたしかねます)"
    r"|(?:ご質問|リクエスト|ご要望)に(?:は)?(?:お答え|お応え|対応)でき"
    r"|(?:无法|無法|不能|没办法)(?:回答|满足|滿足|提供|协助|協助|处理|處理)(?:您|你|这|這|此|该|該)",
    re.IGNORECASE,
)

_TEMPLATE_SIGNS = re.compile(
    r"<\|?(?:im_start|im_end|start_of_turn|end_of_turn|start_header_id|system|user|assistant)\|?>"
    r"|\[/?INST\]|<<SYS>>|^(?:system|user|human)\s*:",
    re.IGNORECASE | re.MULTILINE,
)

_LEAKED_WORDS, _LEAKED_CHARACTERS = 7, 12
"""So many words of the instruction in a row (CJK: characters) are no accident."""


def talks_as_ai(reply: str) -> bool:
    """The reply says that an AI speaks."""
    return bool(_AI.search(reply))


def refuses(reply: str) -> bool:
    """The reply declines a request the way assistants do."""
    return bool(_REFUSAL.search(reply.replace("\u2019", "'")))


def leaks_prompt(reply: str, character: str) -> bool:
    """The reply repeats the role-play instruction, or marks turns as a chat template does."""
    if _TEMPLATE_SIGNS.search(reply):
        return True
    said = _folded(reply)
    closed_up = said.replace(" ", "")
    return any(piece in said or piece in closed_up for piece in _instruction_pieces(character))


@cache
def _instruction_pieces(character: str) -> frozenset[str]:
    return frozenset(
        piece
        for language in INSTRUCTION_LANGUAGES
        for piece in _pieces(role_play_instruction(language, character), language == "en")
    )


def _pieces(text: str, spaced: bool) -> Iterator[str]:
    """Runs of the text, each long enough to betray it; `spaced` where words are apart."""
    folded = _folded(text)
    if spaced:
        words = folded.split()
        for i in range(len(words) - _LEAKED_WORDS + 1):
            yield " ".join(words[i : i + _LEAKED_WORDS])
    else:
        closed_up = folded.replace(" ", "")
        for i in range(len(closed_up) - _LEAKED_CHARACTERS + 1):
            yield closed_up[i : i + _LEAKED_CHARACTERS]


def _folded(text: str) -> str:
    """Lower case, without punctuation, single spaces."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())
