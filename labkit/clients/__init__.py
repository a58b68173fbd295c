"""One streaming client per wire protocol, all of them filling the same `Reply` on the same clock."""
