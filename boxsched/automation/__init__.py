"""Work that nobody asks for each time: the deploys of servers that follow a branch, and
the jobs of builds that have them in a file of their repository."""
