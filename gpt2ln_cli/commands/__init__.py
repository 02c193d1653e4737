"""One folder for each command."""
