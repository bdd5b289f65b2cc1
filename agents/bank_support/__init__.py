"""First-line support of a bank: the example agent, described in `agent.toml`."""
