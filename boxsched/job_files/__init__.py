"""Job files: the jobs of a build, in a file of its repository (``.boxsched.yml``).

``reading`` turns such a file into jobs, or says what is wrong and where. Nodes read files of
repositories with it, and ``boxsched lint`` those of a working copy. ``schema`` is the form of the
file as a JSON Schema, for editors; it is made of the same types.
"""
