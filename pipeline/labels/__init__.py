"""Label words: their vectors, the geometry between them, and what humans say about it."""
