"""What the rules of the answer cost or gain in accuracy: one model, answered with the ban on delimiters and without."""
