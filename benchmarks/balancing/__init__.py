"""Does any other way of balancing beat the cheap modes? Trials of the balancer, each with its prediction."""
