"""Runs on a SLURM cluster: what is particular to a site, the batch script, the code that a job runs."""
