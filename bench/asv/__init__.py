"""What asv measures at every commit: the workloads of :mod:`bench.workloads`, by another door."""
