"""From a publication in a store to a checked view in memory, and the in-process :class:`Keyring`."""
