"""``gpt2ln verify``."""
