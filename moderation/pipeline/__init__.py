"""The one path of an item: accepted, normalised, matched, classified, routed. `run.py` knows the order."""
