"""The parts of console pages that NiceGUI does not bring: a Python class and its script, side by side."""
