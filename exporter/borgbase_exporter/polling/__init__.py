"""When BorgBase is asked, and what is known from its answers."""
