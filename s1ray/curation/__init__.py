"""Curation: from pools of questions to about a thousand that are well-formed, hard and diverse (s1, section 2)."""
