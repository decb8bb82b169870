"""Servers that do the node's job another way: the peers of the benchmarks and an oracle of the tests."""
