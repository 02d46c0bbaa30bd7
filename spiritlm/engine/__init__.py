"""The language model on megatron-core: model, data-parallel layout, CPU backend, optimizer, checkpoints,
train loop and conversion to Hugging Face. Knows nothing of audio."""
