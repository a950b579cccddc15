"""The client of the BorgBase API."""
