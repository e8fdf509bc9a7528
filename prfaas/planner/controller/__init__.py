"""The controller: keeps a running fleet near its best point, on two time scales. Pure; time comes with every call."""
