"""API-key verification for gateways: answers in microseconds, keys that rotate without downtime."""

__version__ = "0.1.0"
