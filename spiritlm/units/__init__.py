"""Speech to units: the `SpeechTokenizer` protocol and what implements it."""
