"""What the platform does by itself."""
