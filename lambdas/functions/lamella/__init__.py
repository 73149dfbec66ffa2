"""Lamella: fully serverless distributed inference. Shared by the Lambda handlers and the command line."""
