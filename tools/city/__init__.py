"""A city to look at: the places of Ambon, a made-up day in each, and boxes that report it over the real wire."""
