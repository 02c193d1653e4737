"""``gpt2ln profile``."""
