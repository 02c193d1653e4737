"""``gpt2ln attribute``."""
