"""Speed, measured against a floor of the same run."""
