"""What every way of guarding a Python service has in common: the rules, free of frameworks and transports."""
