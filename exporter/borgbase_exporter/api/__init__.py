"""BorgBase's GraphQL API: what we ask, how it travels, and what the answers mean."""
