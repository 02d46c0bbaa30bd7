"""Token ids: the vocabulary, document formats and interleaving. numpy only, no torch, no audio."""
