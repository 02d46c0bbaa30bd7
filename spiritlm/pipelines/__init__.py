"""Steps that join models and corpora, run in bulk by datatrove: shard by shard, resumable, on one machine or many."""
