"""How other people's corpora lie on disk, one module a layout.

Each reads names and transcripts (`Found`), not audio, and names what it cannot read (`Reject`). `check.py` then
looks at the audio and makes documents.
"""
