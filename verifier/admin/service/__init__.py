"""The methods of the operators' API: from request to response, the same for the command line and the network."""
