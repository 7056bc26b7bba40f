"""How serving is kept: tables and statements, no rules."""
