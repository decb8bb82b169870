"""The operators' system of record: clients, keys and versions in a SQL database."""
