"""``gpt2ln models``."""
