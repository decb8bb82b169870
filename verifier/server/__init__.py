"""A node: settings, event loop threads, metrics, status and logs."""
