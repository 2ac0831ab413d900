"""Distributed full-graph training of graph convolutional networks: what every worker runs."""
