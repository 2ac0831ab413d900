"""The `bnsgcn` command, the torchrun entry and what starts workers; everything else imports from below."""
