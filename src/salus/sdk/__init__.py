"""What every client needs: transport, session, outbox, frames."""
