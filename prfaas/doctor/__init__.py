"""What `prfaas doctor` looks at before there is traffic: each check reads something and judges it, purely."""
