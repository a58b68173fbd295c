"""What a step hands back to whoever asked."""
from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

from labkit.glassbox.refusal import Refusal


@dataclass(slots=True)
class RequestOutput:
    """What is new for one request since its last output. `generate` and the server join these with `merge`.

    `text` lags behind `token_ids` where characters are incomplete or might begin a stop string.
    """

    request_id: str
    token_ids: list[int]
    text: str = ""
    finish_reason: str | None = None  # "stop", "length", "abort", "refused"; None: there is more to come
    stop_reason: int | str | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0  # of the prompt, found in the prefix cache
    num_preemptions: int = 0
    arrival: float = 0.0  # seconds on the engine's clock (perf_counter, shared by all processes of a host)
    first_scheduled: float = 0.0
    emitted: float = 0.0  # end of the step
    refusal: Refusal | None = None

    def __reduce__(self) -> tuple:
        """Between processes as a plain tuple: a third of the time that a record of named fields takes."""
        return RequestOutput, VALUES(self)

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def merge(self, later: RequestOutput) -> None:
        """Append a later output of the same request."""
        self.token_ids += later.token_ids
        self.text += later.text
        self.finish_reason, self.stop_reason = later.finish_reason, later.stop_reason
        self.num_preemptions, self.emitted = later.num_preemptions, later.emitted


VALUES = attrgetter(*RequestOutput.__slots__)
