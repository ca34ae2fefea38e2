"""The provider's HTTP interface: one module for each subject, gathered in ``app``."""
