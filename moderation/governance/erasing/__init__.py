"""How content ends. One engine for every cause: hidden, doomed, its key destroyed, then its blobs and rows."""
