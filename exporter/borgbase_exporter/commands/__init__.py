"""What the program does: serve, check, textfile, backfill."""
