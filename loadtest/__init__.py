"""Load, peers and benchmarks; not part of the product."""
