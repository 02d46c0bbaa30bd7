"""The exported speech-text model at work: prompts, generation, speaking."""
