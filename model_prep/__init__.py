"""Preparing models offline: readers, generators, partitioners, and the writer of prepared models."""
