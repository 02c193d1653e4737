"""``gpt2ln schema``."""
