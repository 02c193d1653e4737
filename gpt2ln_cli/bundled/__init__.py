"""The checkpoint that comes with the package, and the script that trained it."""
