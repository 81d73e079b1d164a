"""What pages show, made from what the stores say. Pure: no clock, no database, no templates."""
