"""When each word is said: forced alignment over a frame-level CTC model, and readers of alignments made elsewhere."""
