"""The resource layer: pools, their nodes, the workloads in them, and their statistics."""
