"""``gpt2ln help``."""
