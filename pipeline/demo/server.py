"""Serve the page on this machine: pictures come in as request bodies, stay in memory, and are forgotten.

A page of the web must not use it: it listens on the loopback interface, answers to its own names alone (so no foreign
name can be made to point here), takes a content type that a foreign page may not send, and refuses a foreign origin.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.data.pictures import MAX_BYTES
from pipeline.demo.answer import Demo
from pipeline.errors import UserError
from pipeline.inference.bundled_model import bundled_model

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise UserError(
        "The page is served by Starlette and uvicorn, of which one is not installed: run"
        " `python -m pip install -e '.[demo]'`."
    ) from error

HOST = "127.0.0.1"
NAMES = [HOST, "localhost"]
"""What this server is called; to any other name it does not answer."""
CONTENT = "application/octet-stream"
CONNECTIONS = 12
"""At a time; more are turned away, so that memory is bounded, by as many bodies of `MAX_BYTES`."""


def serve(models: Sequence[Path], port: int, threads: int) -> None:
    """Serve the page until Ctrl-C. models: if none, the bundled one. port: 0 for any that is free.

    Raises UserError if the port is taken.
    """
    app = application(Demo(models or [bundled_model()], threads))
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise UserError(f"Port {port} cannot be used ({error.strerror}): take another one with --port.") from error
    with listening, suppress(KeyboardInterrupt):
        print(f"http://{HOST}:{listening.getsockname()[1]} (stop with Ctrl-C)", flush=True)
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, limit_concurrency=CONNECTIONS
        )
        uvicorn.Server(settings).run(sockets=[listening])


def application(demo: Demo) -> Starlette:
    """Return the page, and what it asks: POST /read with a picture as body, `?face` if it is one face."""
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    alone = asyncio.Lock()  # one picture at a time: memory is bounded

    async def show(request: Request) -> Response:
        return HTMLResponse(page)

    async def read(request: Request) -> Response:
        if not _is_ours(request):
            return _refused(403, "Another page asked: open this page itself.")
        if request.headers.get("content-type") != CONTENT:
            return _refused(415, f"Send the picture's file as the body, as {CONTENT}.")
        chunks, size = list[bytes](), 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BYTES:
                    return _refused(413, f"The picture has more than {MAX_BYTES >> 20} MiB: make it smaller.")
                chunks.append(chunk)
        except ClientDisconnect:
            return Response()  # to nobody
        try:
            async with alone:
                content = b"".join(chunks)
                chunks.clear()
                answer = await run_in_threadpool(demo.read, content, "face" in request.query_params)
        except UserError as error:
            return _refused(400, str(error))
        return JSONResponse(answer)

    routes = [Route("/", show, methods=["GET"]), Route("/read", read, methods=["POST"])]
    middleware = [
        Middleware(Headers, headers=headers_of(page)),
        Middleware(TrustedHostMiddleware, allowed_hosts=NAMES, www_redirect=False),
    ]
    return Starlette(routes=routes, middleware=middleware)


class Headers:
    """Add headers to every answer, those of errors too."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self.app = app
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
            await send(message)

        await self.app(scope, receive, with_headers)


def headers_of(page: str) -> dict[str, str]:
    """Return the security headers: the page may run its own script and ask this server, and nothing else."""
    hashes = {tag: _hash(re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)) for tag in ("script", "style")}
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _hash(contents: Sequence[str]) -> str:
    digests = (hashlib.sha256(content.encode()).digest() for content in contents)
    return " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)


def _is_ours(request: Request) -> bool:
    """Return whether a request comes from our page, or from a program, which names no origin."""
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:  # no address
        return False


def _refused(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)
