"""State: database sessions, tables, migrations; nothing of what the rows mean."""
