"""The composition root: wiring, control plane, data plane, worker."""
