"""What recorded runs say, for people: tables, plots, one page, and the results section of the README."""
