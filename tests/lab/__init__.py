"""A laboratory of broken networks and hostile servers, on loopback.

`wire` is a server that does to each connection what a script says, `scripts` what networks and
servers do to one, `account` the answers of a small account that is well, and `bench` runs the real
client against all of them.
"""
