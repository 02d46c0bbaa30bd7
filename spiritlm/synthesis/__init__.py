"""Units become sound again. Knows units and speakers, nothing of the language model."""
