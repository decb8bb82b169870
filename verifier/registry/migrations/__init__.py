"""Steps from one format of the registry to the next. Step ``000N`` leads to format N, ``registry.schema``.

A step never changes once it was released, and imports nothing of :mod:`verifier.registry.schema`, which does.
"""
