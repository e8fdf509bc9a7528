"""``GET /prfaas/status``: the whole gateway at one moment, for people and for programs that show it to them."""
