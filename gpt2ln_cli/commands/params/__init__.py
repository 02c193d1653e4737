"""``gpt2ln params``."""
