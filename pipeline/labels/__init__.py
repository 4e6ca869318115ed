"""Label words: their vectors, the geometry between them, and human judgements of it."""
