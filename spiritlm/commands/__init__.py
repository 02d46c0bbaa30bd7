"""The subcommands of `spiritlm`, one a file: `add(commands)` tells the parser; `run` does the work."""
