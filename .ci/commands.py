"""Write align4gen/commands.json: the options of every command, so that help needs no import."""
from align4gen.commands import write_commands

print(write_commands())
