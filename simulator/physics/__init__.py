"""The water of the simulator: weather, tide, flow and chemistry. Pure."""
