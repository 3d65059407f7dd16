"""The whole reproduction as a list of commands: which there are, and which need not run again."""
