"""Sound on disk and sound as frames: reading, resampling, writing, log-mel and MFCC. Knows nothing of tokens."""
