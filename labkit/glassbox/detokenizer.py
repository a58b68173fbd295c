"""Tokens to text while they come: whole characters only, and stop strings found before they are shown."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from labkit.glassbox.sampling_params import SamplingParams

PRIMER = 5  # prompt tokens that the first output token is decoded after: some decoders drop a leading space
INCOMPLETE = "\ufffd"  # what a decoder makes of bytes that are no character, or not yet


class Detokenizer:
    """The text of one request. All deltas joined equal the decoded output, cut at the first stop string.

    `decode(token_ids)` must be a function of the ids alone. Cost: two decodes of a few tokens for each token; the same few come again and
    again, so that one which remembers its answers saves most of it.
    """

    def __init__(self, decode: Callable[[tuple[int, ...]], str], prompt_token_ids: Sequence[int], params: SamplingParams) -> None:
        self.decode = decode
        self.stops = StopStrings(params.stop, params.include_stop_str_in_output)
        self.min_tokens = params.min_tokens
        self.num_tokens = 0
        self._settled = tuple(prompt_token_ids[-PRIMER:])  # shown already; kept as context
        self._pending: tuple[int, ...] = ()  # not all shown yet
        self._shown = len(decode(self._settled))  # characters of decode(settled + pending) that were handed on

    def append(self, token_id: int) -> tuple[str, str | None]:
        """Text that this token settles, and the stop string that ended it, if one did."""
        self.num_tokens += 1
        self._pending += (token_id,)
        text = self.decode(self._settled + self._pending)
        # Only the last character can still change: every one before it was ended by a byte that came after.
        complete = not text.endswith(INCOMPLETE)
        end = len(text) if complete else len(text) - 1
        fresh, self._shown = text[self._shown : end], max(self._shown, end)
        if complete and fresh:
            self._settled, self._pending = self._pending, ()
            self._shown = len(self.decode(self._settled))
        return self.stops.feed(fresh, ends=self.num_tokens > self.min_tokens)

    def flush(self) -> str:
        """What was held back, when no more tokens come."""
        return self.stops.flush() + self.decode(self._settled + self._pending)[self._shown :]


class StopStrings:
    """Holds back the end of a text as long as it may be the beginning of a stop string."""

    def __init__(self, stops: list[str], include: bool = False) -> None:
        self.stops, self.include = stops, include
        self._held = ""

    def feed(self, text: str, ends: bool = True) -> tuple[str, str | None]:
        """Text that is safe to show, and the stop string found, the earliest in the text. After one is found nothing is held.

        `ends` False: none counts that ends in this text, it is too early; one may begin here.
        """
        if not self.stops:
            return text, None
        text, self._held = self._held + text, ""
        found = min(((at, stop) for stop in self.stops if (at := text.find(stop)) >= 0), default=None) if ends else None
        if found is not None:
            at, stop = found
            return text[: at + len(stop) if self.include else at], stop
        keep = max((self._overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of `text` that begins `stop`."""
        return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
