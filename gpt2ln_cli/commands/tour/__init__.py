"""``gpt2ln tour``."""
