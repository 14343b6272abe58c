"""The v2 training API: the same jobs, where each version is a job of its own."""
