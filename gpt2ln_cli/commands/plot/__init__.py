"""``gpt2ln plot``."""
