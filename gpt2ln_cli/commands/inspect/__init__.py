"""``gpt2ln inspect``."""
