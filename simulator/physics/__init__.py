"""Simulated water: weather, tide, flow and chemistry. Pure; independent of devices and runs."""
