"""Who may use what, answered from memory."""
