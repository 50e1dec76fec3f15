"""The domain of each question: what its source says, brought into one taxonomy; a rule; or what a model makes of it."""
