"""Records: every kind the package stores, their one encoding, and the values of harness runs and approvals."""
