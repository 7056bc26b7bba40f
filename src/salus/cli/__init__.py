"""The command line: one module per slice."""
