"""Every kind of record, their one encoding, and harness runs and approvals."""
