"""``gpt2ln ablate``."""
