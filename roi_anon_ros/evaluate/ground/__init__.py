"""How well people are placed and tracked on the ground, against published truth in metres."""
