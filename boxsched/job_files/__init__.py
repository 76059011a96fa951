"""Job files: the jobs of a build, in a file of its repository (``.boxsched.yml``).

``reading`` turns such a file into jobs, or says what is wrong and where. Nodes use it for files in
repositories, ``boxsched lint`` for files in a working copy. ``schema`` makes the file's JSON Schema
for editors, from the same types.
"""
