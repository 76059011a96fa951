"""Encryption of stored secrets: a node's key ring, and the vault that seals and opens values.

A sealed value is one text, ``sealed:1:KEY:DATA``. KEY is the id of the key, DATA the base64 of a
random 96-bit nonce and the AES-256-GCM ciphertext. The ciphertext is bound to the owner, the name
and the version of the value ("project/12/TOKEN/3"): a text that was copied to another row does not
open.

The store keeps sealed texts and never a key. The first key of a ring seals; every key of it opens.
So a key is changed in two steps: make a new key the first one in the ring of every node; then run
``boxsched secrets rotate``, which seals everything again with the first key. After that the old key
can be removed.

======================================  =========================================================
problem                                 effect
======================================  =========================================================
a node has no ring                      it starts and logs that, as a warning if the database has
                                        sealed values; setting a secret is refused (409); a job
                                        that needs a secret fails with that reason
a value was sealed with an unknown key  the node logs it at its start; the same for that value
a text was changed or moved             it cannot be opened: the same for that value
other users can read the key file       the node does not start
======================================  =========================================================
"""
