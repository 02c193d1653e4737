"""``gpt2ln track``."""
