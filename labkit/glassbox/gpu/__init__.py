"""What a GPU needs: attention as a kernel of OpenAI's Triton (the language, not NVIDIA's server), and steps that are recorded once."""
