"""The rules of the field, as plain values and functions: no I/O, no clock, the standard library only."""
