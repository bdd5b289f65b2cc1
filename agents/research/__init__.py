"""What the agents of the research pipeline share: search, prompts and an offline model for each."""
