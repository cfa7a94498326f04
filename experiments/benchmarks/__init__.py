"""Timings: each benchmark prints a table and writes JSON on request."""
