"""Work that nobody asks for each time: the deploys of servers that follow a branch."""
