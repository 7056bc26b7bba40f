"""For those who test against Salus: conformance classes of the ports, a whole Salus in memory."""
