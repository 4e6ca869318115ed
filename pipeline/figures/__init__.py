"""Draw every figure: each function turns plain data into one PNG, the same bytes for the same data."""
