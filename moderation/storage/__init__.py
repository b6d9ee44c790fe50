"""The database, the vault and the blobs: everything that remembers."""
