"""HTTP in front of an orchestrator: `POST /SERVICE/METHOD` with {"params": […]} is a call, {"result": …} its answer.

A call that fails is answered by {"error": {code, message, retryable}}, see `statuses`. A client that goes away cancels
its call. `GET /health` is 200 when every service has a worker that is ready, and 503 otherwise.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from mlports import CallError, InvalidArgument, Orchestrator

from .statuses import Reply, refusal, reply_to

_ORCHESTRATOR = web.AppKey("orchestrator", Orchestrator)
_GOODBYE = 2.0  # seconds for the answers that are under way when the server ends


@asynccontextmanager
async def serving(orch: Orchestrator, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serves inside the `async with`; gives the address, such as "http://127.0.0.1:40123". Port 0: the system's choice.

    Raises `OSError` for a port that is taken.
    """
    # Without handler_cancellation the call of a client that has gone away would be worked on all the same.
    runner = web.AppRunner(application(orch), handler_cancellation=True, access_log=None, shutdown_timeout=_GOODBYE)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        taken = runner.addresses[0][1]
        yield f"http://{host}:{taken}"
    finally:
        await runner.cleanup()


def application(orch: Orchestrator) -> web.Application:
    """The front of this orchestrator, for whatever server runs it."""
    app = web.Application(middlewares=[_answer_errors])
    app[_ORCHESTRATOR] = orch
    app.add_routes([web.post("/{service}/{method}", _call), web.get("/health", _health)])
    return app


async def _call(request: web.Request) -> web.Response:
    params, timeout = _asked(await request.read())
    target = f"{request.match_info['service']}.{request.match_info['method']}"
    more: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    result = await request.app[_ORCHESTRATOR].call(target, *params, **more)
    return _response(Reply(200, {}, {"result": result}))


async def _health(request: web.Request) -> web.Response:
    services = request.app[_ORCHESTRATOR].status()["services"]
    ready = {name: any(replica["state"] == "ready" for replica in each["replicas"]) for name, each in services.items()}
    return _response(Reply(200 if all(ready.values()) else 503, {}, {"ready": ready}))


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except CallError as error:
        return _response(reply_to(error))
    except web.HTTPException as error:
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return _response(refusal(error.status, error.reason)._replace(headers=kept))


def _asked(content: bytes) -> tuple[list[Any], float | None]:
    """The arguments, and the seconds that the call may take, if that is said. Raises `InvalidArgument`."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the body is no JSON: {error}") from error
    if not isinstance(body, dict) or not body.keys() <= {"params", "timeout"}:
        raise InvalidArgument('the body is {"params": [...]}, and "timeout" in seconds if that is wanted')
    params, timeout = body.get("params", []), body.get("timeout")
    if not isinstance(params, list):
        raise InvalidArgument("params is the list of the method's arguments")
    if timeout is not None and (type(timeout) not in (int, float) or not 0 < timeout < math.inf):
        raise InvalidArgument("timeout is a number of seconds above 0")
    return params, timeout


def _response(reply: Reply) -> web.Response:
    try:
        text = json.dumps(reply.body, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        reply = refusal(500, f"the method's result cannot be told in JSON: {error}")
        text = json.dumps(reply.body)
    return web.json_response(text=text, status=reply.status, headers=reply.headers)


def _plain(value: Any) -> Any:
    """Arrays as lists. Raises `TypeError` for what JSON does not know."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON value")
