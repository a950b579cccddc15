"""What is wrong with accounts, and what is known of them, in words."""
