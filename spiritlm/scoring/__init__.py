"""Log-likelihoods of continuations, n-gram baselines and accuracies with their errors."""
