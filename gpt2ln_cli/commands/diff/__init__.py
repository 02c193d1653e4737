"""``gpt2ln diff``."""
