"""A small world to learn from on a laptop: seeded stories, told aloud by real synthesizers with exact word times."""
