"""FER-2013 and what stands in for it: sources, arrays, checks, duplicates, votes."""
