"""Text of strangers (models, files, users) made safe to print."""

import re

# C0 and C1 controls but tab and newline, DEL, bidirectional overrides, surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\ud800-\udfff]"
)


def safe(text: str) -> str:
    """The text with every character that could steer a terminal shown as U+FFFD."""
    return _UNSAFE.sub("\ufffd", text.replace("\r\n", "\n"))
