"""Simulated devices: sensor faults, units and transport (pure), and the clients that publish.

The water does not belong here (`simulator.physics`); runs are played by `simulator.play`.
"""
