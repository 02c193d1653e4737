"""What is measured, and over which axis."""
