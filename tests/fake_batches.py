"""The files and batches of the fake server: uploads are answered after some looks."""

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any


class Batches:
    """Answers to requests below /files and /batches.

    Attributes:
        polls: how often a batch is found unfinished before it is done.
        expires_after: how many lines of a batch are answered before it expires; None for all.
        refuses: the message with which validation of every batch fails; None for none.
        created: how many batches were created.
        hold_reply: seconds for which the yes to a new batch is kept back.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]) -> None:
        """`answer` gives the status and body for the body of a single request."""
        self._answer = answer
        self._lock = threading.Lock()
        self._files: dict[str, str] = {}
        self._batches: dict[str, dict[str, Any]] = {}
        self._looks: dict[str, int] = {}
        self.polls, self.created = 1, 0
        self.hold_reply = 0.0
        self.expires_after: int | None = None
        self.refuses: str | None = None

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        with self._lock:
            if path.endswith("/files"):
                return self._upload(body)
            batch = self._create(json.loads(body))
        until = time.monotonic() + self.hold_reply
        while time.monotonic() < until and self.hold_reply:
            time.sleep(0.02)
        return batch

    def get(self, path: str) -> bytes | dict[str, Any] | None:
        """A file's content, a batch, or the list of batches; None where there is none."""
        path = path.split("?")[0]
        with self._lock:
            if found := re.search(r"/files/([\w-]+)/content$", path):
                return self._files[found[1]].encode()
            if path.endswith("/batches"):
                newest = list(self._batches.values())[::-1]
                return {"object": "list", "data": newest, "has_more": False}
            found = re.search(r"/batches/([\w-]+)$", path)
            return self._look(found[1]) if found and found[1] in self._batches else None

    def _upload(self, body: bytes) -> dict[str, Any]:
        content = body.split(b"\r\n\r\n")[1:]
        text = next(p for p in content if p.startswith(b'{"custom_id"')).rsplit(b"\r\n--")[0]
        name = f"file-{len(self._files)}"
        self._files[name] = text.decode()
        return {"id": name, "object": "file", "bytes": len(text), "created_at": 0,
                "filename": "x", "purpose": "batch", "status": "processed"}  # fmt: skip

    def _create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        name = f"batch_{len(self._batches)}"
        self.created += 1
        self._batches[name] = {
            "id": name, "object": "batch", "status": "validating", "created_at": int(time.time()),
            "completion_window": "24h", "endpoint": wanted["endpoint"],
            "input_file_id": wanted["input_file_id"], "metadata": wanted.get("metadata"),
        }  # fmt: skip
        self._looks[name] = 0
        return self._batches[name]

    def _look(self, name: str) -> dict[str, Any]:
        batch = self._batches[name]
        self._looks[name] += 1
        if self._looks[name] <= self.polls:
            batch["status"] = "in_progress"
        elif batch["status"] == "in_progress" or batch["status"] == "validating":
            self._finish(batch)
        return batch

    def _finish(self, batch: dict[str, Any]) -> None:
        if self.refuses:
            problem = {"code": "invalid", "message": self.refuses, "line": 1}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [problem]}}
            return
        rows = [json.loads(line) for line in self._files[batch["input_file_id"]].splitlines()]
        good, bad = [], []
        for number, row in enumerate(rows):
            result = {"id": f"r{number}", "custom_id": row["custom_id"], "error": None}
            if self.expires_after is not None and number >= self.expires_after:
                error = {"code": "batch_expired", "message": "not done in time"}
                bad.append(result | {"response": None, "error": error})
                continue
            status, body = self._answer(row["body"])
            response = {"status_code": status, "request_id": "r", "body": body}
            (good if status == 200 else bad).append(result | {"response": response})
        counts = {"total": len(rows), "completed": len(good), "failed": len(bad)}
        batch["request_counts"] = counts
        batch["status"] = "completed" if self.expires_after is None else "expired"
        for field, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                name = f"file-{len(self._files)}"
                self._files[name] = "".join(json.dumps(line) + "\n" for line in reversed(lines))
                batch[field] = name
