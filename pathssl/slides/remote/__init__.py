"""Slides by URL: what of each is needed is kept in a local mirror, which the same readers read as they read a file."""
