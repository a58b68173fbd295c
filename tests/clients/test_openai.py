import asyncio
import json
import socket

import pytest
import uvloop
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from labkit.clients.event_stream import ServerUnusable
from labkit.clients.exchange import Reply, Request
from labkit.clients.openai import OpenAIClient


def event(text=None, **choice) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text, **choice}]}).encode() + b"\n\n"


def ask(writes, request=None, timeout=5.0, status=200, content_type="text/event-stream"):
    """The reply to `request` from a server that answers with the given writes; also what the server was sent."""
    request = request or Request("hello")
    seen = []

    async def answer(http: web.Request) -> web.StreamResponse:
        seen.append((http.path, await http.json(), http.transport))
        response = web.StreamResponse(status=status, headers={"Content-Type": content_type})
        await response.prepare(http)
        for write in writes:
            if write is None:
                http.transport.close()
                return response
            if isinstance(write, float):
                await asyncio.sleep(write)
            else:
                await response.write(write)
        return response

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "the-model"}]})

    async def run() -> list[Reply]:
        app = web.Application()
        app.router.add_get("/v1/models", models)
        app.router.add_post("/v1/{rest:.*}", answer)
        async with TestServer(app) as server, OpenAIClient(str(server.make_url("/v1/"))) as client:
            await client.prepare()
            replies = [Reply(), Reply()]
            for reply in replies:
                await client.stream(request, reply, timeout=timeout)
            return replies

    first, second = asyncio.run(run())
    assert first.text == second.text
    return first, seen


def test_an_answer_is_stamped_in_order_and_counted():
    reply, seen = ask([event("a"), event("b", finish_reason="length"), b'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\n',
                       b"data: [DONE]\n\n"])
    assert reply.ok and reply.text == "ab" and reply.finish_reason == "length" and reply.usage == {"completion_tokens": 2}
    assert reply.t_send <= reply.t_headers <= reply.t_event[0] <= reply.t_event[1] <= reply.t_end
    path, body, _ = seen[0]
    assert path == "/v1/completions" and body["model"] == "the-model" and body["stream_options"] == {"include_usage": True}


def test_the_connection_is_used_again():
    _, seen = ask([event("a", finish_reason="length"), b"data: [DONE]\n\n"])
    assert seen[0][2] is seen[1][2]


def test_role_only_and_empty_pieces_are_no_events_and_reasoning_is_one():
    def delta(**content):
        return b"data: " + json.dumps({"choices": [{"delta": content}]}).encode() + b"\n\n"

    request = Request([{"role": "user", "content": "hello"}])
    reply, seen = ask([delta(role="assistant", content=""), delta(content=""), delta(reasoning_content="hm"), delta(content="yes"),
                       event("", finish_reason="stop"), b"data: [DONE]\n\n"], request)
    assert reply.pieces == ["hm", "yes"] and len(reply.t_event) == 2
    assert seen[0][0] == "/v1/chat/completions" and seen[0][1]["messages"] == request.prompt


def test_token_ids_give_the_tokens_of_each_event_even_where_the_text_is_empty():
    reply, _ = ask([event("", token_ids=[1]), event("ab", token_ids=[2, 3], finish_reason="length"), b"data: [DONE]\n\n"])
    assert reply.n_tok == [1, 2] and len(reply.t_event) == 2


def test_extra_fields_reach_the_server_by_its_own_names_and_none_leaves_one_out():
    _, seen = ask([event("a", finish_reason="length")], Request([1, 2, 3], extra={"ignore_eos": True, "return_token_ids": None}))
    assert seen[0][1]["ignore_eos"] is True and seen[0][1]["prompt"] == [1, 2, 3] and "return_token_ids" not in seen[0][1]


@pytest.mark.parametrize(("writes", "cause", "words"), [
    ([event("a"), None], "disconnected", "after 1 events"),
    ([event("a")], "disconnected", "without a finish reason"),
    ([event("a"), 3600.0], "timeout", "1 events had come"),
    ([event("a"), b'data: {"error": {"message": "engine died", "code": 500}}\n\n'], "stream", "engine died"),
    ([b"data: {nonsense\n\n"], "protocol", "could not be read"),
])
def test_a_stream_that_goes_wrong_keeps_what_came_and_names_the_cause(writes, cause, words):
    reply, _ = ask(writes, timeout=0.5)
    assert reply.error.cause == cause and words in reply.error.message and reply.t_end > 0
    assert reply.text == ("" if cause == "protocol" else "a")


def test_an_http_error_carries_status_and_the_servers_own_words():
    reply, _ = ask([b'{"error": {"message": "prompt is longer than the context"}}'], status=400, content_type="application/json")
    assert reply.error.cause == "http" and reply.error.status == 400 and "longer than the context" in reply.error.message


def test_an_answer_that_does_not_stream_is_named():
    reply, _ = ask([b'{"choices": []}'], content_type="application/json")
    assert reply.error.cause == "protocol" and "application/json" in reply.error.message


def test_nobody_there_is_said_at_once():
    async def run() -> None:
        async with OpenAIClient(f"http://127.0.0.1:{unused_port()}") as client:
            await client.prepare()

    with pytest.raises(ServerUnusable, match="nothing listens") as caught:
        asyncio.run(run())
    assert caught.value.failure.cause == "refused"


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_server_that_goes_at_any_moment_of_connecting_has_closed_the_connection_or_refused_it(runner):
    async def cause(turns: int) -> str:
        """What a request meets whose server goes after so many turns of the event loop."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            async with OpenAIClient(f"http://127.0.0.1:{server.getsockname()[1]}", "the-model") as client:
                reply = Reply()
                sending = asyncio.create_task(client.stream(Request("hello"), reply, timeout=5.0))
                for _ in range(turns):
                    await asyncio.sleep(0)
                server.close()
                await sending
                return reply.error.cause

    async def run() -> list[str]:
        causes = []
        while causes[-3:] != ["disconnected"] * 3:  # later than that it is connected
            causes.append(await cause(turns=len(causes)))
        return causes

    causes = runner(asyncio.wait_for(run(), 60))
    assert causes[0] == "refused" and set(causes) == {"refused", "disconnected"}, causes


def test_something_that_is_no_url_is_named():
    async def run() -> None:
        async with OpenAIClient("glassbox") as client:
            await client.prepare()

    with pytest.raises(ServerUnusable, match="http://host:port"):
        asyncio.run(run())
