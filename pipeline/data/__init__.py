"""Read FER-2013 or drawn faces: sources, arrays, checks, duplicates, votes."""
