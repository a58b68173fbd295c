"""Right and typical wrong answers to the exercises of notebook 03."""
import math

from labkit.glassbox.plan import Plan
from labkit.glassbox.scheduler import Scheduler


def padding_share(prompts: list[int], answers: list[int]) -> float:
    computed = len(prompts) * (max(prompts) + max(answers) - 1)
    return 1 - (sum(prompts) + sum(answers) - len(answers)) / computed


def largest_budget(step: float, token: float, sequence: float, running: int, target: float) -> int:
    return running + math.floor((target - step - running * sequence) / token)


class ShortestFirst(Scheduler):
    """The shortest waiting prompt comes in first."""

    shares_prefixes = False

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        for request in self.running:
            self.extend(plan, request, 1)
        budget = self.max_num_batched_tokens - len(self.running)
        for request in sorted(self.waiting, key=lambda request: request.num_tokens):
            if len(self.running) >= self.max_num_seqs or request.num_tokens > budget:
                break
            if not self.admit(plan, request, request.num_tokens, num_reserved_tokens=self.worst_case(request)):
                break
            budget -= request.num_tokens
        return plan


class Wrong(Scheduler):
    """The right answer with one thing wrong, by the flags of a subclass."""

    shares_prefixes = False
    decodes = budgeted = seated = True

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        if self.decodes:
            for request in self.running:
                self.extend(plan, request, 1)
        budget = self.max_num_batched_tokens - len(self.running) if self.budgeted else 10**9
        for request in self.choose():
            if (self.seated and len(self.running) >= self.max_num_seqs) or request.num_tokens > budget:
                break
            if not self.admit(plan, request, request.num_tokens, num_reserved_tokens=self.worst_case(request)):
                break
            budget -= request.num_tokens
        return plan

    def choose(self) -> list:
        return sorted(self.waiting, key=lambda request: request.num_tokens)


class NoBudget(Wrong):
    budgeted = False


class NoSeats(Wrong):
    seated = False


class NoDecodes(Wrong):
    decodes = False


class WhileWalking(Wrong):
    def choose(self):
        return self.waiting


class InOrderOfArrival(Wrong):
    def choose(self):
        return list(self.waiting)


class LongestFirst(Wrong):
    def choose(self):
        return super().choose()[::-1]


class NeverTheLong(Wrong):
    """Takes no notice of prompts that are longer than 100 tokens."""

    def choose(self):
        return [request for request in super().choose() if request.num_tokens < 100]


class StillWaiting(Wrong):
    """Plans requests where they stand in the queue."""

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        for request in sorted(self.waiting, key=lambda request: request.num_tokens)[:2]:
            plan.add(request, request.num_tokens, [])
        return plan


class NoBlocks(Wrong):
    """Lets requests in by hand, without blocks."""

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        for request in self.choose()[:2]:
            self.waiting.remove(request)
            self.running.append(request)
            request.status = type(request.status).RUNNING
            plan.add(request, request.num_tokens, [])
        return plan


class NewcomersOnly(Wrong):
    """Decodes only when nobody comes in."""

    decodes = False

    def schedule(self, now: float) -> Plan:
        plan = super().schedule(now)
        if not plan.requests:
            for request in self.running:
                self.extend(plan, request, 1)
        return plan


WRONG = {
    "padding_share": [
        (lambda prompts, answers: 1 - (sum(prompts) + sum(answers)) / (len(prompts) * (max(prompts) + max(answers))), "one fewer"),
        (lambda prompts, answers: (len(answers) * max(answers) - sum(answers)) / (len(prompts) * (max(prompts) + max(answers) - 1)),
         "prompts are padded too"),
        (lambda prompts, answers: (len(prompts) * max(prompts) - sum(prompts)) / (len(prompts) * (max(prompts) + max(answers) - 1)),
         "computed on until"),
        (lambda prompts, answers: 1 - padding_share(prompts, answers), "useful share"),
    ],
    "largest_budget": [
        (lambda step, token, each, running, target: math.floor((target - step - running * each) / token), "take a token of the budget"),
        (lambda step, token, each, running, target: running + math.floor((target - step) / token), "take time of the step"),
        (lambda step, token, each, running, target: running + math.floor((target - running * each) / token), "fixed part"),
        (lambda step, token, each, running, target: running + (target - step - running * each) / token, "Tokens are whole"),
        (lambda step, token, each, running, target: running + math.ceil((target - step - running * each) / token), "Rounded up"),
    ],
    "ShortestFirst": [
        (StillWaiting, "still waits"), (NoBlocks, "without asking for memory"), (NoBudget, "The decodes count too"),
        (NoSeats, "self.max_num_seqs"), (WhileWalking, "walk through a copy"), (NoDecodes, "were forgotten"), (NeverTheLong, "starvation"),
        (NewcomersOnly, "leave out some who run"), (LongestFirst, "longest first"), (InOrderOfArrival, "in order of arrival"),
    ],
}
PREDICTIONS = {
    "last to finish": [
        ("tgi: it reserves memory for the worst case", "waiting at the door"),
        ("continuous and chunked: their batch is never the same", "no place in a step"),
    ],
    "readers wait longest": [("static", "nobody disturbs"), ("chunked", "no step can be long")],
    "more tokens per second": [("TGI: it never computes anything twice", "wait outside")],
}
