"""Experiments on a loaded checkpoint: each verdict comes from what the model computed."""
