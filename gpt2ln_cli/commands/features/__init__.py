"""``gpt2ln features``."""
