"""The operators' API: what it does with requests, how it is served, and how it is reached."""
