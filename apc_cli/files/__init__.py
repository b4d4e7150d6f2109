"""Files from anybody, and files for anybody: rows, tables, settings."""
