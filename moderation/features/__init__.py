"""What can be told from a part before any model sees it: safe pictures, digests, perceptual hashes."""
