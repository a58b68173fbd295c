"""OpenAI's protocol as data: request bodies checked into `Call`s, outputs shaped into responses, chunks and errors."""
from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any

from labkit.glassbox.outputs import RequestOutput
from labkit.glassbox.sampling_params import SamplingParams

# Parameters of the protocol that the glass box does not compute, with the values that ask for nothing.
NEUTRAL: dict[str, tuple] = {
    "presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": ({},), "logprobs": (False, 0), "top_logprobs": (0,),
    "echo": (False,), "suffix": ("",), "best_of": (1,), "use_beam_search": (False,), "min_p": (0,), "tools": ([],), "functions": ([],),
    "response_format": ({"type": "text"},), "prompt_logprobs": (0, False),
}  # fmt: skip
NUMBER = (int, float)
FIELDS: dict[str, tuple] = {
    "max_tokens": (int,), "temperature": NUMBER, "top_p": NUMBER, "top_k": (int,), "repetition_penalty": NUMBER, "seed": (int,),
    "ignore_eos": (bool,), "min_tokens": (int,), "include_stop_str_in_output": (bool,), "skip_special_tokens": (bool,),
    "stop": (str, list), "stop_token_ids": (list,),
}  # fmt: skip

QUANTIZE: dict[str, type] = {
    "method": str, "bits": int, "group_size": int, "kv_cache_dtype": str, "calibration_rows": int, "max_num_seqs": int,
}  # fmt: skip


class APIError(Exception):
    """An error as OpenAI's JSON: HTTP status, type, message, the parameter it is about."""

    def __init__(self, status: int, message: str, param: str | None = None, kind: str = "BadRequestError", retry_after: int | None = None):
        super().__init__(message)
        self.status, self.param, self.kind, self.retry_after = status, param, kind, retry_after

    def body(self) -> dict[str, Any]:
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}}


@dataclass(slots=True)
class Call:
    """One checked request body."""

    model: str
    params: SamplingParams
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    return_token_ids: bool = False
    priority: int = 0  # vLLM's extra field: the lower, the earlier
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))


def parse_call(body: Any, default_max_tokens: int) -> Call:
    """What both endpoints have in common. Raises `APIError` 400, naming the parameter."""
    if not isinstance(body, dict):
        raise APIError(400, "the body must be a JSON object")
    for name, neutral in NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            raise APIError(400, f"{name} is not supported by the glass box, got {body[name]!r}; leave it out", name)
    values = {}
    for name, types in FIELDS.items():
        value = body.get(name)
        if value is not None:
            _check_type(name, value, types)
            values[name] = value
    if body.get("max_completion_tokens") is not None:
        _check_type("max_completion_tokens", body["max_completion_tokens"], (int,))
        values["max_tokens"] = body["max_completion_tokens"]
    values.setdefault("max_tokens", default_max_tokens)
    for name, kind in (("stop", str), ("stop_token_ids", int)):
        if isinstance(values.get(name), list):
            for item in values[name]:
                _check_type(name, item, (kind,))
    n = body.get("n") if body.get("n") is not None else 1
    _check_type("n", n, (int,))
    if not 1 <= n <= 128:
        raise APIError(400, f"n must be from 1 to 128, got {n}", "n")
    try:
        params = SamplingParams(**values)
    except ValueError as error:
        raise APIError(400, str(error), str(error).split(" ", 1)[0]) from error
    options = body.get("stream_options") or {}
    _check_type("stream_options", options, (dict,))
    if options and not body.get("stream"):
        raise APIError(400, "stream_options needs stream=true", "stream_options")
    model = body.get("model") or ""
    _check_type("model", model, (str,))
    flags = bool(body.get("stream")), bool(options.get("include_usage")), bool(body.get("return_token_ids"))
    priority = body.get("priority") if body.get("priority") is not None else 0
    _check_type("priority", priority, (int,))
    return Call(model, params, n, *flags, priority)


def parse_prompts(prompt: Any) -> list[str | list[int]]:
    """The four forms of a completion prompt: a text, token ids, or a list of either."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if all(_is_int(item) for item in prompt):
            return [prompt]
        if all(isinstance(item, str) or (isinstance(item, list) and item and all(map(_is_int, item))) for item in prompt):
            return prompt
    raise APIError(400, "prompt must be a string, a list of token ids, or a list of strings or of token id lists, and not empty", "prompt")


def parse_messages(messages: Any) -> list[dict[str, Any]]:
    """Chat messages with text content; parts of type text are joined, other parts are refused."""
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise APIError(400, "messages must be a list of objects with role and content, and not empty", "messages")
    return [{**message, "role": _role(message), "content": _content(message.get("content"))} for message in messages]


def parse_quantize(body: Any) -> dict[str, Any]:
    """Arguments of `Engine.quantize`; null is as good as left out. Raises `APIError` 400, naming the parameter."""
    if not isinstance(body, dict):
        raise APIError(400, "the body must be a JSON object")
    for name, value in body.items():
        if name not in QUANTIZE:
            raise APIError(400, f"{name} is no setting of a quantization: there are {', '.join(QUANTIZE)}", name)
        if value is not None:
            _check_type(name, value, (QUANTIZE[name],))
    return {name: value for name, value in body.items() if value is not None}


def usage(num_prompt: int, num_completion: int, num_cached: int) -> dict[str, Any]:
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
        "prompt_tokens_details": {"cached_tokens": num_cached},
    }


def choice(chat: bool, stream: bool, index: int, output: RequestOutput, return_token_ids: bool) -> dict[str, Any]:
    """One choice of a response or chunk; finish_reason is null while there is more to come."""
    entry: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": output.finish_reason, "stop_reason": output.stop_reason}
    if not chat:
        entry["text"] = output.text
    elif stream:
        entry["delta"] = {"content": output.text}
    else:
        entry["message"] = {"role": "assistant", "content": output.text}
    if return_token_ids:
        entry["token_ids"] = output.token_ids
    return entry


class ChunkTemplate:
    """The chunks of one choice between its first and its last differ in text and token ids alone: the rest is made into JSON once."""

    def __init__(self, head: dict[str, Any], chat: bool, index: int, return_token_ids: bool) -> None:
        marked = choice(chat, True, index, RequestOutput("", [], text=(mark := uuid.uuid4().hex)), return_token_ids)
        self._before, rest = to_json({**head, "choices": [marked]}).split(f'"{mark}"'.encode())
        self._between, _, self._after = rest.partition(b"[]") if return_token_ids else (rest, b"", b"")
        self._ids = return_token_ids

    def fill(self, output: RequestOutput) -> bytes:
        text = encode_basestring(output.text).encode()
        if self._ids:
            return b"%b%b%b[%b]%b" % (self._before, text, self._between, ", ".join(map(str, output.token_ids)).encode(), self._after)
        return self._before + text + self._between


def to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _role(message: dict[str, Any]) -> str:
    _check_type("messages.role", message.get("role"), (str,))
    return message["role"]


def _content(content: Any) -> str:
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if content is None:
        return ""
    _check_type("messages.content", content, (str,))
    return content


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_type(name: str, value: Any, types: tuple) -> None:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise APIError(400, f"{name} must be of type {' or '.join(kind.__name__ for kind in types)}, got {value!r}", name)
