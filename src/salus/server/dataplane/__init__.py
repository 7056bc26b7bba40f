"""The data plane: answers predictions from its own memory and disk, and never waits for the control plane."""
