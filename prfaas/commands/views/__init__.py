"""What `prfaas status`, `top` and `decisions` draw, from what the gateway says: plain values in, text out."""
