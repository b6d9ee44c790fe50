"""The record of who may do what, what was done, and by which rules."""
