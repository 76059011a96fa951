"""Where contents of artifacts and old logs are kept: in a folder, or in the database.

The place is a property of a content, stored in its row, so a node can read what was stored under
another configuration. New contents go into

* the folder of ``--log-store``, which all nodes of a cluster share (NFS, for example);
* without it, with SQLite, a folder in the data folder;
* without it, with PostgreSQL, the database itself, up to DATABASE_FILE_BYTES a file: so a cluster
  works without more configuration, and a larger file is refused with a message that names the
  option.

A content arrives in parts, in a file whose name the server made from the job, the lease and the
hash. Any node that reaches the place can take the next part, so an upload goes on after a node has
died. After the last part the hash is computed from what is stored. Only then the content gets a
row.

Names of files are never used again. A file is removed after its row; a crash in between leaves a
file without a row. ``sweeping`` removes such files when they are a day old, and incomplete uploads.
"""
