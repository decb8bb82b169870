"""What a node tells the control plane: status and usage, over the operators' API."""
