"""How often graders are right, and how long they take."""
