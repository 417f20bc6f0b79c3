"""The imperative shell: the campaign that executes a plan, the console and the command line."""
