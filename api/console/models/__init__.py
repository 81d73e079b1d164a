"""What the pages show, as frozen nouns made from the stores' nouns. Pure: no clock, no database, no NiceGUI."""
