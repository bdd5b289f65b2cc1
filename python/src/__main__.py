"""Entry point of `python -I <this folder>`; `python -m axon_runner` is the same for an install."""

from axon_runner import main

main()
