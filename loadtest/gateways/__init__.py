"""What asking the verifier adds to a gateway: ``python -m loadtest.gateways``."""
