"""The flags of the scripts, their rules and their presets."""
