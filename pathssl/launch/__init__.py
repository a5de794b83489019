"""Many runs: the queue on this machine."""
