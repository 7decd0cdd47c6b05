# Benchmarks have targets of their own; none yet.
