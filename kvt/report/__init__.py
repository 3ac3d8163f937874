"""The report, in one direction: parameters → execute → render."""
