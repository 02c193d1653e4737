"""``gpt2ln count``."""
