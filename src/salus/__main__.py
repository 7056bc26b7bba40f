"""`python -m salus` is the command line."""

from salus.cli.main import main

main()
