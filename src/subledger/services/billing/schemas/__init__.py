"""What billing's routes take and give."""
