"""Studies beside each other at equal cost: what differs, who is ahead, and in which words."""
