"""The open trainer for speech-text language models: the library that every stage program is made of."""

__version__ = "0.1.0"
