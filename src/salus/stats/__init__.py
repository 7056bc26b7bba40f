"""Pure statistics: arrays in, frozen values out; no clock, disk, network or unseeded randomness.

| Question | Module |
|---|---|
| How good is the model, and how sure are we? | `intervals`, `calibration` |
| Is the challenger better than the champion on the same rows? | `paired` |
| May we decide now although we look all the time? | `sequential` (a file per quantity) |
| How far apart are two samples? | `distances` |
| Is that distance more than the reference does by itself? | `drift_tests`, `false_discovery` |
| What does a column look like, in bounded memory? | `sketches.numeric`, `.categorical`, `.quantile` |
"""
