"""What every stage program and every trainer shares: stages, atomic files, progress, metrics, signals,
checkpoint bookkeeping and the small `fit` loop. Knows nothing of speech or of models."""
