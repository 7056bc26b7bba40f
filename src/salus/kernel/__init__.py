"""What every slice stands on: errors, ids, clock, settings, ports, SQL, blobs' content, segments, ledger, jobs."""
