"""How a run is done again: commands, the settings that are its own, versions, machine, seeds, time."""
