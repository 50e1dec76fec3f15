"""Votes over several responses to one question: how sure each response is, and which answer wins."""
