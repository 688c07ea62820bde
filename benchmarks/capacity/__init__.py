"""How many replicas a load takes: measured seconds of a run in, a simulation of queueing out."""
