"""Commands of ``prfaas`` that are more than a few lines, a module each; ``prfaas.cli`` registers them."""
