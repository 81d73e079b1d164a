"""Simulated water: weather, tide, flow and chemistry. Pure; knows neither devices nor runs."""
