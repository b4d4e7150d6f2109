"""Throughput and memory of the chat model: many requests against a server of fixed latency.

    python bench/teacher.py [--requests 5000] [--latency 0.3] [--concurrency 64]

The server is a process of its own that answers each request after exactly the latency. The ideal
time is latency × requests / concurrency.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_requests import ChatRequest
from apc_cli.models.llm.journal import Journal

REPLY = {
    "id": "x", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "A reply of usual length. " * 20}}],
    "usage": {"prompt_tokens": 300, "completion_tokens": 100, "total_tokens": 400},
}  # fmt: skip


def serve(port: "multiprocessing.Queue[int]", latency: float) -> None:
    """A server that keeps connections open, and waits the latency before each answer."""
    body = json.dumps(REPLY).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = head.encode() + body

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                writer.close()
                return
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            await asyncio.sleep(latency)
            writer.write(answer)

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def memory() -> float:
    """MiB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--latency", type=float, default=0.3)
    parser.add_argument("--concurrency", type=int, default=64)
    options = parser.parse_args()
    port: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(port, options.latency), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{port.get()}/v1"
    samples: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal") as journal:
        chat = ChatModel("m", url, options.concurrency, journal)
        question = "What do you do? " * 60
        requests = [
            ChatRequest(({"role": "user", "content": f"{number} {question}"},), 0.0, 100)
            for number in range(options.requests)
        ]
        begin, processor = time.monotonic(), time.process_time()
        every = max(1, options.requests // 20)
        chat.complete_all(
            requests, lambda done, _: samples.append(memory()) if done % every == 0 else None
        )
        seconds, busy = time.monotonic() - begin, time.process_time() - processor
        begin = time.monotonic()
        chat.complete_all(requests)
        again = time.monotonic() - begin
    server.terminate()
    ideal = options.latency * options.requests / options.concurrency
    found = {
        **vars(options),
        "seconds": round(seconds, 2),
        "ideal": round(ideal, 2),
        "ratio": round(seconds / ideal, 3),
        "one after another": round(options.latency * options.requests),
        "cpu seconds": round(busy, 1),
        "from the journal, seconds": round(again, 2),
        "MiB after 5%, 50%, 100%": [round(samples[i]) for i in (0, len(samples) // 2, -1)],
        "peak MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "openai": version("openai"),
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("OPENAI_API_KEY", "none")
    main()
