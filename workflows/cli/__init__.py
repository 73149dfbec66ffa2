"""The command ``lamella``."""
