"""Benchmarks as small modules: what is asked, and how answers become figures."""
