"""config.pbtxt of every model that labkit serves with Triton, built as and checked by Triton's own protobuf message."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.servers.driver import ServerError
from labkit.servers.triton_options import TritonOptions

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

PAIR = [-1, -1]  # dims [rows, tokens]: the batch is written out where the model does not leave it to Triton's batcher


def check(text: str, where: str = "config.pbtxt") -> ModelConfig:
    """The parsed configuration. Raises `ServerError` with the message of Triton's own schema, line and column first."""
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise ServerError(f"Triton's schema refuses {where}: {error}\nThe numbers are line:column; the fields that exist are those of "
                          f"model_config.proto (dims, not shape; TYPE_INT64, not INT64)") from None


def render(config: ModelConfig) -> str:
    """The text of config.pbtxt, read back by Triton's schema before it is given out."""
    from google.protobuf import text_format

    text = text_format.MessageToString(config)
    if check(text, f"config.pbtxt of {config.name}") != config:
        raise AssertionError(f"the configuration of {config.name} does not survive its own text form")
    return text


def tokenizer(parameters: dict[str, str]) -> ModelConfig:
    """Texts [rows] -> padded `output` and `attention_mask` [rows, tokens]."""
    return _python("tokenizer", parameters, inputs=[("input", "STRING", [-1])],
                   outputs=[("output", "INT64", PAIR), ("attention_mask", "INT64", PAIR)])


def detokenizer(parameters: dict[str, str], vocabulary: int) -> ModelConfig:
    """One of `logits` [rows, vocabulary] (the likeliest token is taken) and `token_ids` [rows, tokens] -> texts [rows]."""
    inputs = [("logits", "FP32", [-1, vocabulary], "optional"), ("token_ids", "INT64", PAIR, "optional"),
              ("context_ids", "INT64", PAIR, "optional")]
    return _python("detokenizer", parameters, inputs, outputs=[("output", "STRING", [-1])])


def next_token(parameters: dict[str, str], vocabulary: int, options: TritonOptions) -> ModelConfig:
    """Token ids -> logits of the next one: the model that Triton's dynamic batcher batches.

    `allow_ragged_batch` lets it join requests of different lengths; without it only requests of equal shape form a batch.
    Only the last position's logits are an output: those of all positions would be `tokens` times as many bytes a request.
    """
    kind = "" if not options.ragged_batch else "ragged"
    config = _python("next_token", parameters, inputs=[("input_ids", "INT64", [-1], kind), ("attention_mask", "INT64", [-1], kind)],
                     outputs=[("logits", "FP32", [vocabulary])], kind="KIND_MODEL", count=options.instance_count)
    config.max_batch_size = options.max_batch_size
    if options.dynamic_batching:
        config.dynamic_batching.preferred_batch_size.extend(options.preferred_batch_size)
        config.dynamic_batching.max_queue_delay_microseconds = options.max_queue_delay_microseconds
    return config


def language_model(name: str, parameters: dict[str, str]) -> ModelConfig:
    """Text in, a stream of text out: inputs, outputs and their meaning are those of Triton's own vLLM backend.

    Decoupled (one request, many responses), unbatched by Triton (the engine batches step by step) and of one instance, which
    takes the devices it needs. `input_ids`, `output_ids` and the `context_ids` before them serve the streaming ensemble, in place of
    the texts.
    """
    flags = ("stream", "exclude_input_in_output", "return_finish_reason", "return_num_input_tokens", "return_num_output_tokens")
    ids = name == "glassbox"
    inputs = [("text_input", "STRING", [1], "optional" if ids else ""), ("sampling_parameters", "STRING", [1], "optional")]
    inputs += [(flag, "BOOL", [1], "optional") for flag in flags]
    outputs = [("text_output", "STRING", [-1]), ("finish_reason", "STRING", [-1]), ("num_input_tokens", "UINT32", [1]),
               ("num_output_tokens", "UINT32", [-1])]
    if ids:
        inputs.append(("input_ids", "INT64", PAIR, "optional"))
        outputs += [("output_ids", "INT64", PAIR), ("context_ids", "INT64", PAIR)]
    config = _python(name, parameters, inputs, outputs, kind="KIND_MODEL")
    config.model_transaction_policy.decoupled = True
    return config


def vllm_backend() -> ModelConfig:
    """A model of Triton's own vLLM backend, which fills in inputs and outputs itself; the engine's settings are in 1/model.json."""
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return ModelConfig(name="vllm", backend="vllm", instance_group=[{"count": 1, "kind": "KIND_MODEL"}])


def ensemble() -> ModelConfig:
    """The article's ensemble, made to load: tokenizer -> model -> detokenizer.

    It lacked the platform, the dims and the attention mask. An ensemble is a graph whose models run once each, so it answers with
    exactly one token: a language model needs a loop, which is why LLM engines exist.
    """
    steps = [("tokenizer", {"input": "prompt"}, {"output": "input_ids", "attention_mask": "attention_mask"}),
             ("next_token", {"input_ids": "input_ids", "attention_mask": "attention_mask"}, {"logits": "logits"}),
             ("detokenizer", {"logits": "logits"}, {"output": "response"})]
    return _ensemble("ensemble", [("prompt", "STRING", [-1])], steps, [("response", "STRING", [-1])])


def streaming_ensemble() -> ModelConfig:
    """The same graph around a decoupled model: every token it sends runs through the detokenizer, and the answer streams."""
    ids = {"output_ids": "token_ids", "context_ids": "context_ids"}
    settings = [("sampling_parameters", "STRING", [1]), ("stream", "BOOL", [1])]
    steps = [("tokenizer", {"input": "prompt"}, {"output": "input_ids"}),
             ("glassbox", {"input_ids": "input_ids"} | {name: name for name, *_ in settings}, ids),
             ("detokenizer", {name: name for name in ids.values()}, {"output": "response"})]
    return _ensemble("streaming_ensemble", [("prompt", "STRING", [-1]), *settings], steps, [("response", "STRING", [-1])])


def _python(name: str, parameters: dict[str, str], inputs: list[tuple], outputs: list[tuple], kind: str = "KIND_CPU",
            count: int = 1) -> ModelConfig:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return ModelConfig(name=name, backend="python", input=_inputs(inputs), output=_outputs(outputs),
                       instance_group=[{"count": count, "kind": kind}],
                       parameters={key: {"string_value": value} for key, value in parameters.items()})


def _ensemble(name: str, inputs: list[tuple], steps: list[tuple[str, dict, dict]], outputs: list[tuple]) -> ModelConfig:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return ModelConfig(name=name, platform="ensemble", input=_inputs(inputs), output=_outputs(outputs), ensemble_scheduling={
        "step": [{"model_name": model, "model_version": -1, "input_map": given, "output_map": made} for model, given, made in steps]})


def _inputs(rows: list[tuple]) -> list[dict[str, Any]]:
    return [{"name": name, "data_type": f"TYPE_{kind}", "dims": dims, "optional": "optional" in more,
             "allow_ragged_batch": "ragged" in more} for name, kind, dims, *more in rows]


def _outputs(rows: list[tuple]) -> list[dict[str, Any]]:
    return [{"name": name, "data_type": f"TYPE_{kind}", "dims": dims} for name, kind, dims in rows]
