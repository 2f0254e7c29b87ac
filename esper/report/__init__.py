"""What a run leaves for people: its recorded facts, the report, the page, and the words on the screen."""
