#!/usr/bin/env bash
# The quickstart's path with more speech and a larger model: at most 90 minutes on 2 cores.
exec bash "$(dirname "${BASH_SOURCE[0]}")/quickstart.sh" demo "$@"
