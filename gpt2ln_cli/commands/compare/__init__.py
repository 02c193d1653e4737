"""``gpt2ln compare``."""
