"""The control plane: lifecycle rules, issuing, revoking and publishing."""
