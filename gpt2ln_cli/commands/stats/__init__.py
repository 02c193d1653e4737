"""``gpt2ln stats``."""
