"""Stress tests for agentmem: ``python -m stress --help``. They check that nothing is lost while they measure."""
