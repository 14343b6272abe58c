"""What runs in an instance of a service. It imports nothing else of muster."""
