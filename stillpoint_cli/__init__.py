"""The command line `stillpoint`: a client of the three services like any other, and the way to run them locally."""
