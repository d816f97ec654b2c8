"""CUDA devices that are simulated on a CPU, and tests on them; a test needs no GPU."""
