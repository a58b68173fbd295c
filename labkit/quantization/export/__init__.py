"""Checkpoints of quantized models that vLLM, transformers and TGI load."""
