"""A stand-in for an engine that costs little itself: streams a fixed number of chunks at a fixed pace, no model."""

import argparse
import asyncio
import json
from typing import Any, cast

import httptools
import uvloop

from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.hf_tokenizer import HfPromptTokenizer, load_tokenizer

CHUNKS = 64
_EVENT = {
    "id": "chatcmpl-0123456789abcdef0123456789abcdef",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "tiny",
    "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}],
}
_DATA = b"data: %b\n\n" % json.dumps(_EVENT).encode()
EVENT = b"%x\r\n%b\r\n" % (len(_DATA), _DATA)
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
MODELS = {"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "vllm", "max_model_len": 200000}]}


class Settings:
    """What all connections share; ``pace_s`` is set by a request to ``/pace``."""

    def __init__(self, tokenizer: HfPromptTokenizer) -> None:
        self.tokenizer = tokenizer
        self.pace_s = 0.005
        self.tasks: set[asyncio.Task[None]] = set()


class Connection(asyncio.Protocol):
    """One client's connection; requests come one after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, body = self._url.decode(), b"".join(self._body)
        if path.startswith("/v1/") and body:
            if b'"stream":true' in body.replace(b": ", b":"):
                self._transport.write(HEAD + EVENT)
                self._timer = self._loop().call_later(self._settings.pace_s, self._next, CHUNKS - 1)
            else:
                self._answer({"id": "x", "object": "text_completion", "choices": []})
        elif path.startswith("/tokenize"):
            task = asyncio.create_task(self._tokenize(json.loads(body)))
            self._settings.tasks.add(task)
            task.add_done_callback(self._settings.tasks.discard)
        elif path.startswith("/pace/"):
            self._settings.pace_s = float(path.removeprefix("/pace/"))
            self._answer({})
        else:
            self._answer(MODELS if path == "/v1/models" else {"model_path": "tiny", "status": "ok"})

    async def _tokenize(self, body: dict[str, Any]) -> None:
        endpoint: Any = "chat" if "messages" in body else "completions"
        ids = (await self._settings.tokenizer.tokens_of(ApiRequest(endpoint, body))).ids
        self._answer({"tokens": ids.to_list() if ids else []})

    def _next(self, left: int) -> None:
        if left:
            self._transport.write(EVENT)
            self._timer = self._loop().call_later(self._settings.pace_s, self._next, left - 1)
        else:
            self._transport.write(END)

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )

    @staticmethod
    def _loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


async def serve(ports: list[int], tokenizer: str) -> None:
    """Serve on all ports until killed."""
    settings = Settings(load_tokenizer(tokenizer, 200_000))
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(lambda: Connection(settings), "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("ports", type=int, nargs="+")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.ports, arguments.tokenizer))
