"""Keyring files: records, building and inspecting them (docs/keyring-format.md)."""
