"""The protocols of collecting, capturing and refunding, searched exhaustively at small size."""
