"""Entry point of `python -m axon_runner`."""

from axon_runner import main

main()
