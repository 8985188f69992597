"""Connection profiles: which is wanted for each device, which it has, and how it receives another one."""
