"""`ringfence demo`: traffic signs of four countries, five regions, one model, real processes."""
