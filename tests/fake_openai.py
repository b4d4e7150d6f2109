"""An OpenAI-compatible server on 127.0.0.1 for tests: counts, delivers, and fails to plan.

Replies are a pure function of the messages (`fake_replies`); batches work too (`fake_batches`).

    with FakeOpenAI(plan=["500", None, "429:0.2"]) as server:
        ...                   # server.url, server.requests, server.deliveries
"""

import hashlib
import itertools
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fake_batches import Batches
from fake_replies import logprobs_of, reply_to, usage_of

_WORDS = {"403logprobs": "You are not allowed to request logprobs from this model"}


class FakeOpenAI:
    """The server, running in threads of this process from `with` to its end.

    Attributes:
        requests: how many requests arrived.
        arrivals: monotonic time of each.
        deliveries: how often each message list got a whole good reply, by digest.
        refuses: parameters that are answered with `unsupported_parameter`.
        gives_logprobs: False for a server that ignores the wish for log-probabilities.
        most_choices: how many replies a request gets at most that wants several.
        bodies: the parsed request bodies, in order of arrival.
        batches: the batch API; its replies count as deliveries, not as requests.
    """

    def __init__(self, plan: Iterable[str | None] = (), delay: float = 0.0) -> None:
        """`plan` names the fault of each request in order of arrival; after it all goes well.

        Faults: "429:SECONDS", "limited" (429 alone), "quota", "STATUS" (such as "500"), "401echo",
        "truncated", "empty", "html", "error200", "nochoices", "null", "hang", "drip", "reset",
        "redirect", "length", "content_filter", "refusal", "echo200", "403logprobs".
        """
        self._plan = itertools.chain(plan, itertools.repeat(None))
        self._lock = threading.Lock()
        self.delay = delay
        self.requests = 0
        self.arrivals: list[float] = []
        self.deliveries: Counter[str] = Counter()
        self.refuses: set[str] = set()
        self.gives_logprobs = True
        self.most_choices = 1
        self.bodies: list[dict[str, Any]] = []
        self.batches = Batches(self._answer_in_batch)
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

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and body for a request that no fault befalls."""
        for name in sorted(self.refuses & body.keys()):
            message = f"Unsupported parameter: '{name}'"
            return 400, {"error": error_body("unsupported_parameter", message, name)}
        found = json.loads(completion_for(body, self.gives_logprobs))
        if (wanted := min(body.get("n", 1), self.most_choices)) > 1:
            [choice] = found["choices"]
            found["choices"] = [_numbered(choice, number) for number in range(wanted)]
        return 200, found

    def _answer_in_batch(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, found = self.answer(body)
        if status == 200:
            self.delivered(body)
        return status, found

    def delivered(self, body: dict[str, Any]) -> None:
        with self._lock:
            self.deliveries[digest(body["messages"])] += 1


def _numbered(choice: dict[str, Any], number: int) -> dict[str, Any]:
    content = f"{choice['message']['content']} ({number})"
    return choice | {"index": number, "message": choice["message"] | {"content": content}}


def digest(messages: Any) -> str:
    """What identifies a message list in `deliveries`."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()


def completion_for(body: dict[str, Any], gives_logprobs: bool = True) -> bytes:
    """The body of the good reply to a request."""
    messages = body["messages"]
    content = reply_to(messages, as_json="response_format" in body)
    logprobs = None
    if gives_logprobs and body.get("logprobs"):
        logprobs = logprobs_of(content, body["top_logprobs"])
    return completion(content, logprobs=logprobs, usage=usage_of(messages, content))


def completion(
    content: str | None,
    finish: str = "stop",
    logprobs: Any = None,
    usage: dict[str, int] | None = None,
    **message: Any,
) -> bytes:
    """The body of a chat completion."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content, **message},
        "logprobs": logprobs,
    }
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "fake"}
    return json.dumps(body | {"choices": [choice], "usage": usage}).encode()


def error_body(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The `error` of a refused request."""
    return {"message": message, "type": "test", "code": code, "param": param}


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
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.endswith("/chat/completions"):
            self._found(fake.batches.post(self.path, raw))
            return
        body = json.loads(raw)
        fault = fake.arrive(body)
        fake.stopping.wait(fake.delay)
        if fault is None:
            self._answer(fake, body)
        else:
            self._fail(fake, fault, body)

    def do_GET(self) -> None:
        self._found(self.server.fake.batches.get(self.path))

    def _found(self, found: bytes | dict[str, Any] | None) -> None:
        if found is None:
            self._error(404, "not_found", "no such thing")
        else:
            self._send(200, found if isinstance(found, bytes) else json.dumps(found).encode())

    def _answer(self, fake: FakeOpenAI, body: dict[str, Any]) -> None:
        status, answer = fake.answer(body)
        self._send(status, json.dumps(answer).encode())
        if status == 200:
            fake.delivered(body)

    def _fail(self, fake: FakeOpenAI, fault: str, body: dict[str, Any]) -> None:
        good = completion_for(body)
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
            words = _WORDS.get(fault, f"planned failure\n\x1b[2J for {key}")
            self._error(int(fault[:3]), "planned", words)

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
        error = error_body(code, message, param)
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
