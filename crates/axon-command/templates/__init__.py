"""An agent, described in `agent.toml`."""
