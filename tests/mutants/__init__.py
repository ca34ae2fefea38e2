"""Guards taken away one at a time: something has to go red for each."""
