"""The protocols of collecting and refunding, searched exhaustively at small size."""
