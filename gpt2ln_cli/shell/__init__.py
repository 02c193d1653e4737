"""What the commands share on the way in and out."""
