"""Videos as sharded records, local or remote: their schema, how they are written and read, and in which order."""
