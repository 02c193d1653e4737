"""``gpt2ln report``."""
