"""Manifests of recordings, stores of aligned documents, and the datasets a trainer reads."""
