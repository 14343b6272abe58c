"""What a user may ask for, one function each."""
