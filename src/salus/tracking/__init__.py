"""Experiments, runs, parameters, metrics, artifacts. The model slice: others read like this one."""
