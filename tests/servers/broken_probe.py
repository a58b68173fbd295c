"""A probe with a mistake in it, which vLLM loads for `test_vllm`."""
from labkit.servers.vllm_probe import ProbedScheduler


class BrokenScheduler(ProbedScheduler):
    def _admit(self, *args):
        return 1 / 0


def scheduler(vllm_config, **arguments):
    return BrokenScheduler(vllm_config=vllm_config, **arguments)
