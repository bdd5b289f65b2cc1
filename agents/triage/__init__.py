"""Says which desk of the bank a customer's message is for: the agent described in `agent.toml`."""
