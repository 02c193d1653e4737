"""``gpt2ln completion``."""
