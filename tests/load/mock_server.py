"""A server with known times, in a process of its own: `python mock_server.py`, prints its port.

A prompt is a JSON object that says what to do: {"first": s, "gap": s, "n": tokens, "then": "stop" | "die" | "stall" | "error" | ...}.
Each piece of text is the server's own `perf_counter_ns` when it wrote it: both ends of the socket are on one clock.
"""
import asyncio
import json
import os
from time import perf_counter_ns

from aiohttp import web


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model"}]})


async def completions(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    order = json.loads(body["prompt"])
    if status := order.get("status"):
        return web.json_response({"error": {"message": "prompt is longer than the context"}}, status=status)
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    due = perf_counter_ns() + int(order["first"] * 1e9)
    n = order.get("n", body["max_tokens"])
    for index in range(n):
        await asyncio.sleep(max(0, (due - perf_counter_ns()) / 1e9))
        due += int(order.get("gap", 0) * 1e9)
        reason = "length" if index == n - 1 and "then" not in order else None
        event = {"choices": [{"index": 0, "text": f"{perf_counter_ns()} ", "finish_reason": reason}]}
        await answer.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    match order.get("then"):
        case "die":
            os._exit(1)
        case "stall":
            await asyncio.sleep(3600)
        case "error":
            await answer.write(b'data: {"error": {"message": "engine died", "code": 500}}\n\n')
        case "disconnect":
            request.transport.close()
            return answer
        case None:
            usage = {"prompt_tokens": 7, "completion_tokens": n * order.get("tokens_per_event", 1)}
            await answer.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")
    return answer


async def main() -> None:
    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/completions", completions)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
