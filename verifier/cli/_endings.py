"""The ways to end a version, side by side, for the help of the commands that do it."""

ENDINGS = """\b
Ways to end a version:
  command          ends                         callers see      from            undone by
  revoke           versions, by any choice      REVOKED          at once         reinstate (1)
  key revoke       versions of a key            REVOKED          publication     reinstate (1)
  key retire       an overlap, early            EXPIRED          publication     key rollback
  key cancel       a successor not used yet     REVOKED          publication     reinstate (2)
  key disable      a key, for a while           KEY_DISABLED     publication     key enable
  client disable   all keys of a client         CLIENT_DISABLED  publication     client enable
  (1) unless it was revoked for key_compromise, which is final
  (2) unless it was pending

`verifier revoke` publishes and waits for the nodes; the others are published with --publish, with --admin, or by the
next `verifier publish`.
"""
