"""From prompts to contexts and batches."""
