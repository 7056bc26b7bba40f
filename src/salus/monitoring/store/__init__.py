"""How monitoring keeps what it knows: tables and statements, no rules."""
