"""The command line: one module for each group of commands; they parse, call and print."""
