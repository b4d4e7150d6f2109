"""An OpenAI-compatible server on 127.0.0.1 for tests: counts, delivers, and fails to plan.

Replies are a pure function of the messages, and good enough for the teacher's five prompts.

    with FakeOpenAI(plan=["500", None, "429:0.2"]) as server:
        ...                   # server.url, server.requests, server.deliveries
"""

import hashlib
import itertools
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_COMMON_WORDS = frozenset(
    "a an and are at be do does did has have her his i in is it its my of on or she he that the "
    "they to was were what when where which who why with you your about tell me not true says "
    "reply long ago how many know".split()
)


class FakeOpenAI:
    """The server, running in threads of this process from `with` to its end.

    Attributes:
        requests: how many requests arrived.
        arrivals: monotonic time of each.
        deliveries: how often each message list got a whole good reply, by digest.
        refuses: parameters that are answered with `unsupported_parameter`.
        bodies: the parsed request bodies, in order of arrival.
    """

    def __init__(self, plan: Iterable[str | None] = (), delay: float = 0.0) -> None:
        """`plan` names the fault of each request in order of arrival; after it all goes well.

        Faults: "429:SECONDS", "limited" (429 alone), "quota", "STATUS" (such as "500"), "401echo",
        "truncated", "empty", "html", "error200", "nochoices", "null", "hang", "drip", "reset",
        "redirect", "length", "content_filter", "refusal", "echo200".
        """
        self._plan = itertools.chain(plan, itertools.repeat(None))
        self._lock = threading.Lock()
        self.delay = delay
        self.requests = 0
        self.arrivals: list[float] = []
        self.deliveries: Counter[str] = Counter()
        self.refuses: set[str] = set()
        self.bodies: list[dict[str, Any]] = []
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "FakeOpenAI":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def arrive(self, body: dict[str, Any]) -> str | None:
        """Counts a request and gives its fault."""
        with self._lock:
            self.requests += 1
            self.arrivals.append(time.monotonic())
            self.bodies.append(body)
            return next(self._plan)

    def delivered(self, body: dict[str, Any]) -> None:
        with self._lock:
            self.deliveries[digest(body["messages"])] += 1


def digest(messages: Any) -> str:
    """What identifies a message list in `deliveries`."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()


def completion(content: str | None, finish: str = "stop", **message: Any) -> bytes:
    """The body of a chat completion."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content, **message},
    }
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "fake"}
    return json.dumps(body | {"choices": [choice], "usage": {"total_tokens": 7}}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    fake: FakeOpenAI

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        fake: FakeOpenAI = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = fake.arrive(body)
        fake.stopping.wait(fake.delay)
        if fault is None:
            self._answer(fake, body)
        else:
            self._fail(fake, fault, body)

    def _answer(self, fake: FakeOpenAI, body: dict[str, Any]) -> None:
        for name in sorted(fake.refuses & body.keys()):
            self._error(400, "unsupported_parameter", f"Unsupported parameter: '{name}'", name)
            return
        self._send(200, completion(reply_to(body["messages"])))
        fake.delivered(body)

    def _fail(self, fake: FakeOpenAI, fault: str, body: dict[str, Any]) -> None:
        good = completion(reply_to(body["messages"]))
        key = self.headers.get("Authorization", "")
        bodies = {
            "truncated": good[: len(good) // 2],
            "empty": b"",
            "html": b"<html><body>It works!</body></html>",
            "error200": b'{"error": {"message": "overloaded"}}',
            "nochoices": b'{"choices": []}',
            "null": completion(None),
            "length": completion("cut o", "length"),
            "content_filter": completion(None, "content_filter"),
            "refusal": completion(None, refusal="I will not."),
            "echo200": completion(f"You sent {key}"),
        }
        if fault in bodies:
            self._send(200, bodies[fault], "text/html" if fault == "html" else "application/json")
        elif fault in ("hang", "drip", "reset"):
            self._stall(fake, fault, good)
        elif fault == "redirect":
            self._send(307, b"", headers={"Location": "http://127.0.0.1:9/v1/chat/completions"})
        elif fault == "quota":
            self._error(429, "insufficient_quota", "You exceeded your current quota")
        elif fault == "401echo":
            self._error(401, "invalid_api_key", f"Incorrect API key provided: {key}")
        elif fault == "limited" or fault.startswith("429:"):
            pause = {"Retry-After": fault[4:]} if fault != "limited" else {}
            self._error(429, "rate_limit_exceeded", "Slow down", headers=pause)
        else:
            self._error(int(fault), "planned", f"planned failure\n\x1b[2J for {key}")

    def _stall(self, fake: FakeOpenAI, fault: str, good: bytes) -> None:
        if fault == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "hang":
            fake.stopping.wait(30)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(good)))
        self.end_headers()
        for byte in good:
            self.wfile.write(bytes([byte]))
            if fake.stopping.wait(0.1):
                return

    def _error(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        error = {"message": message, "type": "test", "code": code, "param": param}
        self._send(status, json.dumps({"error": error}).encode(), headers=headers)

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Silence."""


def reply_to(messages: list[dict[str, str]]) -> str:
    """A sensible answer to the teacher's prompts; an echo of anything else."""
    text = messages[-1]["content"]
    tags = dict(re.findall(r"<(\w+)>\s*(.*?)\s*</\1>", text, re.DOTALL))
    statement = tags.get("statement", "")
    if "facts" in tags:
        return '"Well, ' + tags["facts"].replace("- ", "") + '"'
    if "paragraph" in tags:
        return _statements(text, tags["paragraph"])
    if "response" in tags:
        return _nli(statement, tags["response"])
    if "Contradicted:" in text:
        return _replies(statement)
    if "utterance" in tags:
        return "Yes." if _words(statement) & _words(tags["utterance"]) else "No."
    if statement:
        topic = " ".join(sorted(_words(statement))[:3])
        asked = ("What about {}?", "How long ago was it, {}?", "Tell me: {}.")
        return "\n".join(f"{n}. {q.format(topic)}" for n, q in enumerate(asked, 1))
    return f"echo: {text}"


def _statements(text: str, paragraph: str) -> str:
    name = re.search(r"Character: (.*)", text)[1]
    sentences = [s for s in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())) if s]
    named = [re.sub(r"^(?:She|He|They|It)\b", name, sentence) for sentence in sentences]
    return "\n".join(f"- {s}" if name in s else f"- {name}: {s}" for s in named) or "none"


def _replies(statement: str) -> str:
    return (
        "Shared: a short and friendly answer.\n"
        f"Entailed: Well, it is said that {statement}\n"
        "Neutral: Well, let us speak of something else, my friend.\n"
        f"Contradicted: Well, it is not true that {statement}"
    )


def _nli(statement: str, response: str) -> str:
    overlap = len(_words(statement) & _words(response)) / max(1, len(_words(statement)))
    if overlap < 0.6:
        return "neutral"
    return "contradict" if "not true" in response else "Entailed."


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower())) - _COMMON_WORDS
