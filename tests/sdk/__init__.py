"""The libraries for boards, on the real services and against the reference device."""
