"""The devices of the simulator: sensor faults, reporting, transport (pure), and the clients that publish."""
