"""The bank's fraud desk: the agent described in `agent.toml`."""
