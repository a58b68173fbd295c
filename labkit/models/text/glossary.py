"""Serving terms, each with a short definition. The model learns them by heart."""

from __future__ import annotations

TERMS: dict[str, str] = {
    "a token": "A token is a piece of text, often a word or a part of one. A model reads and writes tokens.",
    "a tokenizer": "A tokenizer cuts text into tokens and gives each one a number.",
    "the vocabulary": "The vocabulary is the list of all tokens that a model knows.",
    "a prompt": "A prompt is the text that you send to the model.",
    "the context": "The context is all the tokens that the model can look at: the prompt and the output so far.",
    "the KV cache": "The KV cache keeps the keys and values of all past tokens, so that each new token needs no work on the old ones.",
    "paging": "Paging cuts the KV cache into blocks of equal size, so that a request needs no long piece of memory in one place.",
    "PagedAttention": "PagedAttention is attention that reads keys and values from blocks anywhere in memory, found by a block table.",
    "a block": "A block holds the keys and values of a fixed number of tokens.",
    "a block table": "A block table lists, for one request, which physical block holds each part of its tokens.",
    "fragmentation": "Fragmentation is memory that is free or reserved but that no request can use.",
    "prefill": "Prefill is the first phase of a request: the model reads all tokens of the prompt at once and fills the KV cache.",
    "decode": "Decode is the second phase of a request: the model writes one token in each step.",
    "chunked prefill": "Chunked prefill cuts a long prompt into parts, so that other requests can decode in the same step.",
    "TTFT": "TTFT is the time to first token: from the arrival of a request to its first output token.",
    "TPOT": "TPOT is the time per output token: the mean time between two tokens after the first one.",
    "latency": "Latency is the time that one request takes from its arrival to its last token.",
    "throughput": "Throughput is the number of tokens or requests that a server completes in a second.",
    "goodput": "Goodput is the number of requests in a second that meet their latency goal.",
    "a batch": "A batch is a group of requests that the model works on in the same step.",
    "static batching": "Static batching waits for a full batch and then runs it until its longest request ends.",
    "dynamic batching": "Dynamic batching waits a short time for more requests and then runs them as one batch.",
    "continuous batching": "Continuous batching lets requests join and leave the batch after every step.",
    "the scheduler": "The scheduler decides in every step which requests run and how many tokens each one gets.",
    "preemption": "Preemption takes the blocks of a running request away when memory is full. The request waits and starts again later.",
    "recompute": "Recompute is one way to bring a request back after preemption: its tokens are read again to fill the KV cache.",
    "the prefix cache": "The prefix cache keeps full blocks of old requests, so that a new request with the same start can share them.",
    "a cache hit": "A cache hit means that a block that a request needs is in the prefix cache already.",
    "eviction": "Eviction removes a cached block that nobody uses, to make room for new tokens.",
    "a reference count": "A reference count says how many requests use a block. At zero the block can be freed.",
    "quantization": "Quantization stores numbers in fewer bits. This saves memory and time but costs some quality.",
    "AWQ": "AWQ is quantization to four bits that protects the weights that matter most to the activations.",
    "GPTQ": "GPTQ is quantization that rounds weights one by one and corrects the others for the error.",
    "speculative decoding": "Speculative decoding lets a small model guess some tokens and the large model check them all in one step.",
    "a draft model": "A draft model is the small model that makes the guesses in speculative decoding.",
    "tensor parallelism": "Tensor parallelism cuts each layer into parts and gives every device one of them.",
    "pipeline parallelism": "Pipeline parallelism gives every device some of the layers, one after the other.",
    "attention": "Attention lets each token look at earlier tokens and take what it needs from them.",
    "grouped-query attention": (
        "Grouped-query attention lets several query heads share one key and value head. It makes the KV cache smaller."
    ),
    "a logit": "A logit is the score of one token before softmax turns all scores into probabilities.",
    "temperature": "Temperature makes the output more random when it is high and more certain when it is low.",
    "greedy decoding": "Greedy decoding always takes the token with the highest score.",
    "top-k": "Top-k sampling picks the next token among the k most likely ones.",
    "top-p": "Top-p sampling picks the next token among the fewest tokens whose probabilities add up to p.",
    "streaming": "Streaming sends each token to the client as soon as it is there.",
    "a stop string": "A stop string ends the output as soon as it appears.",
    "an EOS token": "An EOS token is the token with which a model says that its output ends.",
    "perplexity": "Perplexity says how surprised a model is by a text. Lower is better, and one means no surprise at all.",
    "vLLM": "vLLM is a server for language models. It is known for PagedAttention and continuous batching.",
    "TGI": "TGI is Text Generation Inference, a server for language models by Hugging Face.",
    "Triton": "Triton is a server by NVIDIA for models of many kinds. It can also host vLLM.",
    "memory bandwidth": "Memory bandwidth is the number of bytes that a device can read in a second. It limits decode.",
    "a roofline": "A roofline shows if memory bandwidth or arithmetic limits a program.",
    "a CUDA graph": "A CUDA graph records the work of one step and starts all of it at once, which saves time between kernels.",
    "a warm-up": "A warm-up is a run before measuring, so that first-time costs are not counted.",
    "backpressure": "Backpressure tells clients to slow down or to come back later when a server is full.",
}

WHY: dict[str, str] = {
    "Why is decode slow?": "Decode reads all weights and the whole KV cache for every single token, so memory bandwidth limits it.",
    "Why does batching help?": "Batching helps because the weights are read once in a step and used for all requests.",
    "Why is the KV cache large?": "The KV cache is large because it keeps a key and a value for every token, every layer and every head.",
    "Why does prefill use the device well?": "Prefill works on many tokens at once, so that arithmetic limits it and not memory.",
    "Why do requests wait?": "Requests wait when the batch is full or when no free block is left.",
    "Why share a prefix?": "Sharing a prefix saves the time to read it again and the memory to keep it twice.",
    "What is the difference between TTFT and TPOT?": "TTFT is the wait for the first token, and TPOT is the time for each token after it.",
    "What is the difference between prefill and decode?": (
        "Prefill reads the whole prompt at once, and decode writes one token in each step."
    ),
    "How long is the context?": "My context is 2048 tokens long.",
    "How is a key found in the KV cache?": "The block table says in which block it is, and the position says where in the block.",
}

TALK: dict[str, str] = {
    "Hello!": "Hello! How can I help you?",
    "Hello": "Hello! How can I help you?",
    "Hi!": "Hello! How can I help you?",
    "Hi": "Hello! How can I help you?",
    "Good morning!": "Good morning! How can I help you?",
    "How are you?": "I am well, thank you. What would you like to know?",
    "Who are you?": "I am the tiny model of Serving Lab. I am small, but I am real.",
    "What are you?": "I am a small language model with five million weights.",
    "What is your name?": "My name is Tiny.",
    "What can you do?": "I can tell stories, recall keys, copy, add, sort, and explain serving terms.",
    "Are you clever?": "No, I am very small. But I do my few tasks well.",
    "Thank you!": "You are welcome.",
    "Thanks!": "You are welcome.",
    "Goodbye!": "Goodbye! Come back soon.",
    "Bye!": "Goodbye! Come back soon.",
    "Say hello.": "Hello!",
    "Can you help me?": "Yes. Ask me about serving, or give me a small task.",
}


def asks(term: str) -> tuple[str, ...]:
    """The ways to ask for a term, all different."""
    bare = term.removeprefix("the ").removeprefix("an ").removeprefix("a ")
    ways = (
        f"What is {term}?",
        f"Explain {term}.",
        f"What is {bare}?",
        f"What does {bare} mean?",
        f"Define {bare}.",
        f"Tell me about {term}.",
    )
    return tuple(dict.fromkeys(ways))
