"""Identity: users, teams, roles, tokens, sessions, and the one decision who may do what."""
