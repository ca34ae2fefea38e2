"""``subledger demo``: an online cinema does six months of business through the public API."""
