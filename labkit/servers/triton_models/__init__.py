"""Python backends that labkit puts into Triton's model repository. They run in stub processes of the Triton environment."""
